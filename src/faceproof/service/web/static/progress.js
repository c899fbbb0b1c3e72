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
  const source = new EventSource(`/v1/jobs/${jobId}/events`);
  source.addEventListener("state", (event) => {
    const { state } = JSON.parse(event.data);
    if (state === "running") stage.textContent = "Opening the file";
    else if (state === "queued") stage.textContent = "Waiting for a free worker";
    else { source.close(); window.location.reload(); }
  });
  source.addEventListener("progress", (event) => {
    const news = JSON.parse(event.data);
    stage.textContent = stages[news.stage] ?? "Working";
    if (news.total) bar.value = news.progress / news.total;
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
