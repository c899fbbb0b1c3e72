import { call, complain, wireDelete } from "./api.js";

const place = document.getElementById("progress");

if (place) follow(place.dataset.job);
else {
  const jobId = document.getElementById("actions").dataset.job;
  wireDelete(jobId);
  document.getElementById("again").addEventListener("click", async () => {
    try {
      const job = await call("POST", `/v1/jobs/${jobId}/again`, {});
      window.location.assign(`/jobs/${job.id}`);
    } catch (error) { complain(error); }
  });
}

function follow(jobId) {
  const stage = document.getElementById("stage");
  const bar = document.getElementById("bar");
  const stages = { faces: "Looking for faces and judging them", evidence: "Preparing the evidence" };
  let told = stage.textContent;
  const show = (words) => { if (stage.textContent !== words) stage.textContent = words; };  // screen readers say it anew
  const tell = (words) => { told = words; show(words); };
  const source = new EventSource(`/v1/jobs/${jobId}/events`);
  // The browser connects again by itself, except where the server says that there is nothing to follow any more.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(() => window.location.reload(), 2000);
    else show("The server does not answer. Trying again; the file is not lost.");
  });
  source.addEventListener("open", () => show(told));
  source.addEventListener("state", (event) => {
    const { state } = JSON.parse(event.data);
    if (state === "running") tell("Opening the file");
    else if (state === "queued") tell("Waiting for a free worker");
    else { source.close(); window.location.reload(); }
  });
  source.addEventListener("progress", (event) => {
    const news = JSON.parse(event.data);
    tell(stages[news.stage] ?? "Working");
    if (news.stage === "evidence") bar.removeAttribute("value");
    else if (news.total) bar.value = news.progress / news.total;
    if (news.progress != null) document.getElementById("frames").textContent = news.total ? `${news.progress} of ${news.total}` : news.progress;
    if (news.faces != null) document.getElementById("faces").textContent = news.faces;
    draw(news.curve ?? []);
  });
  document.getElementById("cancel").addEventListener("click", async () => {
    try { await call("POST", `/v1/jobs/${jobId}/cancel`); } catch (error) { complain(error); }
  });
}

function draw(scores) {
  if (scores.length < 2) return;
  document.getElementById("tentative").hidden = false;
  const points = scores.map((score, i) => `${(600 * i / (scores.length - 1)).toFixed(1)},${(78 - 76 * score).toFixed(1)}`);
  document.getElementById("curve").setAttribute("points", points.join(" "));
}
