// The treatments page. Version __VERSION__.
import { call, showHealth, showProblem } from '/assets/api.js';

const form = document.getElementById('create');
const rows = document.getElementById('treatments');
const problem = document.getElementById('problem');
let id = crypto.randomUUID?.() ?? uuid();

function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function leave() {
  sessionStorage.clear();
  location.assign('/');
}

function row(treatment) {
  const line = document.createElement('tr');
  const cells = [new Date(treatment.created_at).toLocaleString(), treatment.patient, treatment.kind, treatment.site, treatment.seeds];
  cells.forEach((text, column) => {
    const cell = line.insertCell();
    cell.textContent = text;
    if (column === 4) cell.className = 'number';
  });
  return line;
}

async function list() {
  try {
    const treatments = await call('/api/treatments?limit=50');
    rows.replaceChildren(...treatments.map(row));
    document.getElementById('none').hidden = treatments.length > 0;
  } catch (error) {
    if (error.status === 401) leave();
    showProblem(problem, error);
  }
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = form.querySelector('button');
  button.disabled = true;
  showProblem(problem, null);
  const fields = Object.fromEntries(new FormData(form));
  try {
    await call('/api/treatments', { ...fields, id, seeds: Number(fields.seeds) });
    id = uuid();
    form.reset();
    await list();
  } catch (error) {
    // The id stays: saving again after an unclear answer cannot make a second treatment.
    if (error.status === 409) id = uuid();
    else showProblem(problem, error);
    await list();
  } finally {
    button.disabled = false;
  }
});

document.getElementById('leave').addEventListener('click', leave);
document.getElementById('user').textContent = sessionStorage.getItem('username') ?? '';
if (sessionStorage.getItem('token')) list();
else leave();
showHealth(document.getElementById('health'));
