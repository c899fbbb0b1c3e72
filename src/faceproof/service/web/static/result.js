import { call, clock, complain, isThere, wireDelete } from "./api.js";
import { Boxes } from "./boxes.js";

const place = document.getElementById("result");
const jobId = place.dataset.job;
const medium = document.getElementById("medium");
const seekbar = document.getElementById("seek");
const isVideo = place.dataset.kind === "video";

wireDelete(jobId);
const report = await call("GET", `/v1/jobs/${jobId}/report.json`).catch((error) => { complain(error); throw error; });
const boxes = new Boxes(document.getElementById("boxes"), medium, report);
document.getElementById("show-boxes").addEventListener("change", (event) => { boxes.on = event.target.checked; boxes.draw(); });

const note = document.getElementById("viewer-note");
medium.addEventListener("error", () => {
  // Nothing is seen that boxes could lie on.
  boxes.hidden = true;
  boxes.draw();
  note.textContent = isVideo
    ? "This browser cannot play the file itself. Tick “Heat and curve in the video” to see it drawn; everything below is unaffected."
    : "This browser cannot show the file itself; everything below is unaffected.";
});

const length = Number(document.querySelector(".lanes")?.dataset.length ?? 0);
const moments = report.tracks.flatMap((track) => track.suspicious.map((span) => span.start)).sort((a, b) => a - b);

function seek(time) {
  if (!isVideo) return;
  medium.currentTime = Math.max(0, Math.min(time, length));
  show(medium.currentTime);
}

function show(time) {
  if (!seekbar) return;
  const curve = seekbar.querySelector(".curve").getBoundingClientRect();
  const left = curve.left - seekbar.getBoundingClientRect().left;
  document.getElementById("playhead").style.left = `${left + (length ? Math.min(1, time / length) : 0) * curve.width}px`;
  seekbar.setAttribute("aria-valuenow", time.toFixed(1));
  seekbar.setAttribute("aria-valuetext", told(time));
}

function told(time) {
  const said = report.tracks.filter((track) => track.suspicious.some((s) => s.start <= time && time <= s.end)).map((track) => `person ${track.id}`);
  return clock(time) + (said.length ? `, suspicious: ${said.join(", ")}` : "");
}

if (seekbar) {
  const at = (event) => {
    const curve = seekbar.querySelector(".curve").getBoundingClientRect();
    seek(((event.clientX - curve.left) / curve.width) * length);
  };
  seekbar.addEventListener("pointerdown", (event) => { seekbar.setPointerCapture(event.pointerId); at(event); });
  seekbar.addEventListener("pointermove", (event) => { if (event.buttons) at(event); });
  seekbar.addEventListener("keydown", (event) => {
    const now = medium.currentTime, step = event.shiftKey ? 5 : Math.max(0.2, Math.min(1, length / 50));
    const target = {
      ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step, Home: 0, End: length,
      PageDown: moments.find((m) => m > now + 0.05), PageUp: moments.findLast((m) => m < now - 0.05),
    }[event.key];
    if (event.key === " ") { event.preventDefault(); medium.paused ? medium.play() : medium.pause(); }
    if (target === undefined) return;
    event.preventDefault();
    seek(target);
  });
  medium.addEventListener("timeupdate", () => show(medium.currentTime));
  window.addEventListener("resize", () => show(medium.currentTime));
  show(0);
}
for (const button of document.querySelectorAll(".seek[data-time]")) {
  button.addEventListener("click", () => { seek(Number(button.dataset.time)); medium.scrollIntoView({ block: "nearest" }); });
}

let asked = 0;
document.getElementById("show-heat")?.addEventListener("change", async (event) => {
  const box = event.target, time = medium.currentTime;
  const drawn = `/v1/jobs/${jobId}/overlay.mp4`;
  if (!box.checked) { medium.src = `/v1/jobs/${jobId}/media`; medium.currentTime = time; boxes.hidden = false; note.textContent = ""; return; }
  note.textContent = "The video is being drawn; this takes a moment.";
  const mine = ++asked;
  try {
    while (box.checked && mine === asked && !(await isThere(drawn))) await new Promise((done) => setTimeout(done, 2000));
  } catch (error) {
    note.textContent = error.message;
    box.checked = false;
  }
  if (!box.checked || mine !== asked) return;
  note.textContent = "";
  boxes.hidden = true;
  medium.src = drawn;
  medium.currentTime = time;
});

document.getElementById("compare").addEventListener("submit", async (event) => {
  event.preventDefault();
  const detector = new FormData(event.target).get("detector");
  try {
    const other = await call("POST", `/v1/jobs/${jobId}/again`, detector ? { detector } : { frames: "all" });
    window.location.assign(`/compare/${jobId}/${other.id}`);
  } catch (error) { complain(error); }
});

const feedback = document.getElementById("feedback");
if (feedback) {
  const said = document.getElementById("feedback-said"), back = document.getElementById("feedback-back");
  const choices = [...feedback.querySelectorAll("[data-truth]")];
  const tell = (truth) => {
    for (const choice of choices) choice.setAttribute("aria-pressed", String(choice.dataset.truth === truth));
    said.textContent = truth ? `You said: ${truth === "fake" ? "manipulated" : "genuine"}.` : "Taken back.";
    back.hidden = !truth;
  };
  for (const choice of choices) {
    choice.addEventListener("click", async () => {
      try { tell((await call("PUT", `/v1/jobs/${jobId}/label`, { truth: choice.dataset.truth })).truth); } catch (error) { complain(error); }
    });
  }
  back.addEventListener("click", async () => {
    try { await call("DELETE", `/v1/jobs/${jobId}/label`); tell(null); choices[0].focus(); } catch (error) { complain(error); }
  });
}
