"use strict";
(() => {
  const slider = document.getElementById("slider");
  if (!slider) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const cursor = document.getElementById("cursor");
  const readout = document.getElementById("readout");
  const player = document.getElementById("player");
  const video = player.querySelector("video");
  const boxes = document.getElementById("boxes");
  const scene = document.getElementById("scene");
  let now = 0;

  const clock = (seconds) => {
    const tenths = Math.round(seconds * 10);
    const whole = Math.floor(tenths / 10);
    const rest = String(whole % 60).padStart(2, "0");
    const minutes = Math.floor(whole / 60) % 60;
    const hours = Math.floor(whole / 3600);
    const front = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : `${minutes}`;
    return `${front}:${rest}.${tenths % 10}`;
  };
  // Index of the last point at or before a time.
  const before = (points, time) => {
    let low = 0, high = points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= time + 1e-4) low = middle + 1; else high = middle;
    }
    return low - 1;
  };
  const reach = Math.max(0.25, (data.duration / Math.max(data.times.length, 1)) * 0.75);
  const nearest = (points, time) => {
    const at = before(points, time);
    const found = [points[at], points[at + 1]].filter((p) => p && Math.abs(p[0] - time) <= reach);
    found.sort((a, b) => Math.abs(a[0] - time) - Math.abs(b[0] - time));
    return found[0];
  };
  const strip = () => {
    const lane = slider.querySelector(".plot").getBoundingClientRect();
    return { left: lane.left - slider.getBoundingClientRect().left, width: lane.width, edge: lane.left };
  };
  const words = (time) => {
    const seen = data.lanes.map((lane) => [lane.name, nearest(lane.points, time)]).filter(([, point]) => point);
    return seen.length ? seen.map(([name, point]) => `${name} ${point[1].toFixed(2)}`) : [data.nobodySeen];
  };
  const draw = (time) => {
    const place = strip();
    cursor.style.left = `${place.left + (data.duration ? time / data.duration : 0) * place.width}px`;
  };
  const show = (time, seek) => {
    now = Math.min(Math.max(time, 0), data.duration);
    draw(now);
    const said = [clock(now), ...words(now)].join(" · ");
    readout.textContent = said;
    slider.setAttribute("aria-valuenow", now.toFixed(3));
    slider.setAttribute("aria-valuetext", said);
    if (seek && !player.hidden) video.currentTime = now;
    if (!player.hidden) drawBoxes(now);
  };
  const drawBoxes = (time) => {
    boxes.replaceChildren();
    const taken = [];
    for (const lane of data.lanes) {
      const point = nearest(lane.points, time);
      if (!point) continue;
      const [, score, x0, y0, x1, y1] = point;
      for (const under of [true, false]) {
        const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        rect.setAttribute("x", x0); rect.setAttribute("y", y0);
        rect.setAttribute("width", x1 - x0); rect.setAttribute("height", y1 - y0);
        if (under) rect.setAttribute("class", "under"); else rect.setAttribute("stroke", lane.colour);
        boxes.append(rect);
      }
      const size = Math.max(data.width, data.height) / 40;
      const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
      text.textContent = `${lane.name} ${score.toFixed(2)}`;
      const width = 0.6 * size * text.textContent.length;
      const x = Math.max(Math.min(x0, data.width - width), 0);
      // Above the face, below it where another label is there already.
      const free = (y) => taken.every(([a, b]) => Math.abs(a - x) > width || Math.abs(b - y) > size);
      const places = [Math.max(y0 - size * 0.3, size), Math.min(y1 + size, data.height), y0 + size];
      const y = places.find(free) ?? places[0];
      taken.push([x, y]);
      text.setAttribute("x", x); text.setAttribute("y", y);
      text.setAttribute("font-size", size);
      boxes.append(text);
    }
  };
  const timeAt = (event) => {
    const place = strip();
    return ((event.clientX - place.edge) / place.width) * data.duration;
  };
  slider.addEventListener("click", (event) => show(timeAt(event), true));
  slider.addEventListener("pointermove", (event) => {
    if (event.buttons === 1) { show(timeAt(event), true); return; }
    const time = Math.min(Math.max(timeAt(event), 0), data.duration);
    readout.textContent = [clock(time), ...words(time)].join(" · ");
  });
  slider.addEventListener("pointerleave", () => show(now, false));
  slider.addEventListener("keydown", (event) => {
    const times = data.times;
    const at = before(times.map((t) => [t]), now);
    const onto = {
      ArrowRight: () => times[Math.min(at + 1, times.length - 1)],
      ArrowUp: () => times[Math.min(at + 1, times.length - 1)],
      ArrowLeft: () => times[Math.max(at - (times[at] < now - 1e-3 ? 0 : 1), 0)],
      ArrowDown: () => times[Math.max(at - (times[at] < now - 1e-3 ? 0 : 1), 0)],
      PageUp: () => now + data.duration / 10,
      PageDown: () => now - data.duration / 10,
      Home: () => 0,
      End: () => data.duration,
    }[event.key];
    if (!onto) return;
    event.preventDefault();
    show(onto(), true);
  });
  for (const button of document.querySelectorAll("button[data-time]")) {
    button.addEventListener("click", () => show(Number(button.dataset.time), true));
  }
  const ready = () => {
    if (!video.videoWidth) return;
    player.hidden = false;
    if (scene) scene.hidden = true;
    document.getElementById("hint").hidden = true;
    show(now, true);
  };
  video.addEventListener("loadedmetadata", ready);
  if (video.readyState >= 1) ready();
  video.addEventListener("timeupdate", () => { if (!video.seeking) show(video.currentTime, false); });
  window.addEventListener("resize", () => draw(now));
  show(data.start, false);
})();
