// The API, as the pages use it.

const base = window.ALA?.apiUrl || `${location.protocol}//${location.hostname}:5000`;

export async function call(path, body) {
  const headers = { 'Content-Type': 'application/json' };
  const token = sessionStorage.getItem('token');
  if (token) headers.Authorization = `Bearer ${token}`;
  const options = body === undefined ? { headers } : { method: 'POST', headers, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(base + path, options);
  } catch {
    throw new Error('The service cannot be reached. Try again in a moment.');
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Error(answer.error || `The service answered ${response.status}.`), { status: response.status });
  }
  return answer;
}

export async function showHealth(place) {
  try {
    const health = await call('/api/health');
    place.textContent = `service ${health.status}, database ${health.database}, Priority ${health.priority}`;
  } catch (problem) {
    place.textContent = problem.message;
  }
}

export function showProblem(place, problem) {
  place.textContent = problem ? problem.message : '';
  place.hidden = !problem;
}
