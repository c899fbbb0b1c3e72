// Speaks the same REST API as everyone else; adds the session's token and turns problems into words.

const token = document.querySelector('meta[name="csrf"]').content;

const AWAY = "The server does not answer. Try again in a moment.";

export async function call(method, address, json) {
  const headers = { "X-CSRF-Token": token };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const body = json === undefined ? undefined : JSON.stringify(json);
  const answer = await fetch(address, { method, headers, body }).catch(() => { throw new Error(AWAY); });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  throw new Error(inWords(answer.status, await answer.json().catch(() => ({}))));
}

function inWords(status, problem) {
  // Whoever sees this page came in once: their session is over. They have no use for a header's name.
  if (status === 401) return "Your session is over. Reload the page to sign in again.";
  return [problem.detail, problem.remedy].filter(Boolean).join(". ") || `The server answered ${status}.`;
}

// Whether a file is there. False while it is being made; an error says why it never will be.
export async function isThere(address) {
  const answer = await fetch(address, { headers: { Range: "bytes=0-0" } }).catch(() => { throw new Error(AWAY); });
  if (answer.ok) return answer.status !== 202;
  throw new Error(inWords(answer.status, await answer.json().catch(() => ({}))));
}

export function send(form, onProgress) {
  // fetch() cannot tell how much of an upload has gone; XMLHttpRequest can.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/jobs");
    request.setRequestHeader("X-CSRF-Token", token);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* not JSON: the status says enough */ }
      if (request.status < 300) resolve(body);
      else reject(new Error(inWords(request.status, body)));
    };
    request.onerror = () => reject(new Error("The connection broke off. Send the file again."));
    request.send(form);
  });
}

export function complain(error) {
  const place = document.getElementById("problem");
  place.textContent = error.message;
  place.hidden = false;
}

export function wireDelete(jobId) {
  const button = document.getElementById("delete");
  button?.addEventListener("click", async () => {
    if (!window.confirm("Delete the file, the result and all evidence for good?")) return;
    try {
      await call("DELETE", `/v1/jobs/${jobId}`);
      window.location.assign("/");
    } catch (error) { complain(error); }
  });
}

export function clock(seconds) {
  const whole = Math.floor(seconds), rest = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
