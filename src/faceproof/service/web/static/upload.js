import { send } from "./api.js";

const form = document.getElementById("upload");
const input = document.getElementById("file");
const sending = document.getElementById("sending");

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); form.classList.remove("over"); });
}
document.addEventListener("drop", (event) => upload([...event.dataTransfer.files]));
input.addEventListener("change", () => upload([...input.files]));
form.addEventListener("submit", (event) => event.preventDefault());

async function upload(files) {
  let last = null;
  let failed = 0;
  for (const file of files) {
    const job = await one(file);
    if (job) last = job; else failed += 1;
  }
  input.value = "";
  if (last && files.length === 1) window.location.assign(`/jobs/${last.id}`);
  else if (last && !failed) window.location.assign("/history");
}

async function one(file) {
  const row = document.createElement("div");
  row.className = "sending";
  const name = document.createElement("span");
  name.textContent = file.name;
  const state = document.createElement("span");
  state.setAttribute("aria-hidden", "true");  // screen readers ask the bar; each per cent spoken would drown the rest
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Sending ${file.name}`);
  row.append(name, state, bar);
  sending.append(row);
  if (file.size > Number(form.dataset.max)) return refuse(row, state, bar, "This file is larger than the server takes.");
  const body = new FormData();
  for (const select of form.querySelectorAll("select")) if (select.value) body.append(select.name, select.value);
  body.append("file", file);
  try {
    const job = await send(body, (share) => { bar.value = share; state.textContent = `${Math.round(share * 100)} %`; });
    state.removeAttribute("aria-hidden");
    state.textContent = !job.reused ? "Sent" : job.state === "done" ? "Judged before" : "Sent before";
    const link = document.createElement("a");
    link.href = `/jobs/${job.id}`;
    link.textContent = file.name;
    name.replaceChildren(link);
    bar.value = 1;
    return job;
  } catch (error) { return refuse(row, state, bar, error.message); }
}

function refuse(row, state, bar, words) {
  bar.remove();
  state.remove();
  const said = document.createElement("p");
  said.className = "warning";
  said.setAttribute("role", "alert");
  said.textContent = words;
  row.append(said);
  return null;
}
