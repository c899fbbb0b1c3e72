// Speaks the same REST API as everyone else; adds the session's token and turns problems into words.

const token = document.querySelector('meta[name="csrf"]').content;

export async function call(method, address, json) {
  const headers = { "X-CSRF-Token": token };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(address, { method, headers, body: json === undefined ? undefined : JSON.stringify(json) });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new Error([problem.detail, problem.remedy].filter(Boolean).join(". ") || `The server answered ${answer.status}.`);
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
      else reject(new Error([body.detail, body.remedy].filter(Boolean).join(". ") || `The server answered ${request.status}.`));
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
