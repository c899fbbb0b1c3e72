// Waits for the side that is not there yet.
for (const side of document.querySelectorAll(".pending")) {
  if (!["queued", "running"].includes(side.dataset.state)) continue;
  const source = new EventSource(`/v1/jobs/${side.dataset.job}/events`);
  // The browser connects again by itself, except where there is nothing to follow any more: then the page says so.
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) setTimeout(() => window.location.reload(), 2000); });
  source.addEventListener("state", (event) => {
    if (["done", "failed", "cancelled"].includes(JSON.parse(event.data).state)) { source.close(); window.location.reload(); }
  });
}
