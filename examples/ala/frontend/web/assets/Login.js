import { call, showHealth, showProblem } from '/assets/api.js';

const form = document.getElementById('login');
const problem = document.getElementById('problem');

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = form.querySelector('button');
  button.disabled = true;
  showProblem(problem, null);
  try {
    const { token, username } = await call('/api/login', Object.fromEntries(new FormData(form)));
    sessionStorage.setItem('token', token);
    sessionStorage.setItem('username', username);
    location.assign('/treatments.html');
  } catch (error) {
    showProblem(problem, error);
    button.disabled = false;
  }
});

showHealth(document.getElementById('health'));
