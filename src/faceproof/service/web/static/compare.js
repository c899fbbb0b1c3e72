// Waits for the side that is not there yet.
for (const side of document.querySelectorAll(".pending")) {
  if (!["queued", "running"].includes(side.dataset.state)) continue;
  const source = new EventSource(`/v1/jobs/${side.dataset.job}/events`);
  source.addEventListener("state", (event) => {
    if (["done", "failed", "cancelled"].includes(JSON.parse(event.data).state)) { source.close(); window.location.reload(); }
  });
}
