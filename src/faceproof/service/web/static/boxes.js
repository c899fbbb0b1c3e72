// Draws the report's boxes over the medium: each person in the colour of their verdict, dashed where suspicious. Between two
// looks boxes follow the line between them, as in the drawn video: not where somebody else was seen in the person's place.

// A face's own number on the scale of people's scores: what a detector's calibration did to those.
export function onOneScale(p, report) {
  const how = report.detector.calibration;
  if (!how || report.ensemble) return p;
  const clipped = Math.min(Math.max(p, 1e-6), 1 - 1e-6), logit = Math.log(clipped / (1 - clipped));
  if (how.method === "temperature") return 1 / (1 + Math.exp(-logit / how.a));
  if (how.method === "platt") return 1 / (1 + Math.exp(-(how.a * logit + how.b)));
  if (how.method !== "isotonic") return p;
  const after = how.points.findIndex(([x]) => x >= p);
  if (after <= 0) return how.points[after === 0 ? 0 : how.points.length - 1][1];
  const [x0, y0] = how.points[after - 1], [x1, y1] = how.points[after];
  return y0 + (y1 - y0) * (p - x0) / (x1 - x0);
}

const between = (a, b, share) => a.box.map((v, i) => v + (b.box[i] - v) * share);

// Intersection over union.
function overlap(a, b) {
  const across = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])), down = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across * down;
  return union > 0 ? (across * down) / union : 0;
}

const COLOURS = { FAKE: "#D55E00", REAL: "#0072B2", INCONCLUSIVE: "#8A8A8A", NOT_ASSESSED: "#8A8A8A" };

export class Boxes {
  constructor(canvas, medium, report) {
    Object.assign(this, { canvas, medium, report, on: true, hidden: false });
    this.isVideo = report.media.kind === "video";
    this.threshold = onOneScale(report.detector.frame_threshold ?? report.detector.threshold, report);
    this.paths = report.tracks.map((track) => ({ track, stops: [] }));
    const byId = new Map(this.paths.map((path) => [path.track.id, path]));
    for (const frame of report.frame_predictions) {
      for (const face of frame.faces) byId.get(face.track)?.stops.push({ time: frame.time, box: face.box, p: onOneScale(face.p_fake, report) });
    }
    // Between two looks further apart than this nothing is claimed.
    this.times = report.frame_predictions.map((frame) => frame.time);
    const gaps = this.times.slice(1).map((time, i) => time - this.times[i]);
    this.reach = Math.max(0.5, 1.5 * (gaps.length ? Math.max(...gaps) : 1));
    for (const path of this.paths) path.stops.forEach((stop, i) => { stop.leadsOn = this.leadsOn(path, i); });
    new ResizeObserver(() => this.draw()).observe(medium);
    if (this.isVideo) this.follow(); else if (medium.complete) this.draw(); else medium.addEventListener("load", () => this.draw());
  }

  follow() {
    for (const name of ["loadeddata", "seeked", "timeupdate"]) this.medium.addEventListener(name, () => this.draw());
    if ("requestVideoFrameCallback" in this.medium) {
      const next = () => { this.draw(); this.medium.requestVideoFrameCallback(next); };
      this.medium.requestVideoFrameCallback(next);
    }
  }

  draw() {
    const { canvas, medium, report } = this;
    const shown = medium.getBoundingClientRect(), density = window.devicePixelRatio || 1;
    const scale = Math.min(shown.width / report.media.width, shown.height / report.media.height) * density;
    // The canvas has the medium's own shape and is fitted into the screen as the medium is: on paper too, where nothing is drawn anew.
    canvas.width = report.media.width * scale;
    canvas.height = report.media.height * scale;
    const pen = canvas.getContext("2d");
    if (!this.on || this.hidden) return;
    const now = this.isVideo ? medium.currentTime : 0;
    const drawn = [];
    for (const judged of [false, true]) {
      for (const path of this.paths) {
        const here = (path.track.score !== null) === judged && this.at(path, now);
        if (!here) continue;
        this.box(pen, path.track, here, scale, density);
        if (judged) drawn.push({ track: path.track, ...here });
      }
    }
    // Whoever could not be judged has no number, and crowds of passers-by would cover those who were.
    const taken = [], ends = [report.media.width * scale, report.media.height * scale];
    for (const one of drawn) this.label(pen, one, scale, density, taken, ends);
  }

  at(path, now) {
    const stops = path.stops;
    if (!this.isVideo) return stops[0];
    let after = stops.findIndex((stop) => stop.time > now);
    if (after === -1) after = stops.length;
    const a = stops[after - 1], b = stops[after];
    if (a?.leadsOn && b) {
      const share = (now - a.time) / (b.time - a.time);
      return { box: between(a, b, share), p: a.p + (b.p - a.p) * share };
    }
    if (a && now - a.time <= this.held(a.time, 1)) return a;
    return b && b.time - now <= this.held(b.time, -1) ? b : undefined;
  }

  leadsOn(path, place) {
    const a = path.stops[place], b = path.stops[place + 1];
    if (!b || b.time - a.time > this.reach) return false;
    return !this.report.frame_predictions.some((frame) => frame.time > a.time && frame.time < b.time && frame.faces.some((face) =>
      face.track !== path.track.id && overlap(face.box, between(a, b, (frame.time - a.time) / (b.time - a.time))) >= 0.3));
  }

  // How long a lone box stays: no further than half-way to the next look.
  held(time, way) {
    const next = this.times[this.times.indexOf(time) + way];
    return next === undefined ? 0.2 : Math.min(0.2, Math.abs(next - time) / 2);
  }

  box(pen, track, { box, p }, scale, density) {
    const [x0, y0, x1, y1] = box.map((v) => v * scale);
    const judged = track.score !== null;
    pen.lineWidth = (judged ? 2.5 : 1) * density;
    pen.strokeStyle = COLOURS[track.verdict];
    pen.setLineDash(judged && p > this.threshold ? [8 * density, 4 * density] : []);
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }

  // Above its box, or below or beside it where another label stands; over another only where there is no other place.
  label(pen, { track, box, p }, scale, density, taken, [right, bottom]) {
    const [x0, y0, x1, y1] = box.map((v) => v * scale);
    const who = track.id === 0 ? "" : x1 - x0 > 90 * density ? `person ${track.id}  ` : `${track.id}: `;
    // In a picture it is the person's own score, as beside it.
    const words = who + (this.isVideo ? p : track.score).toFixed(2);
    // On a telephone faces are as small as the words.
    const size = density * Math.max(10, Math.min(13, right / density / 50)), pad = size * 0.38;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const width = pen.measureText(words).width + 2 * pad, height = 1.5 * size;
    const places = [[x0, Math.max(0, y0 - height)], [x0, y1], [x1 - width, y0 - height], [x1 - width, y1], [x1, y0], [x0 - width, y0]];
    const inside = ([x, y]) => x >= 0 && y >= 0 && x + width <= right && y + height <= bottom;
    const clear = ([x, y]) => taken.every(([a, b, w, h]) => x + width <= a || x >= a + w || y + height <= b || y >= b + h);
    const [x, top] = places.find((place) => inside(place) && clear(place)) ?? places[0];
    taken.push([x, top, width, height]);
    pen.fillStyle = "rgb(20 23 26 / .85)";
    pen.fillRect(x, top, width, height);
    pen.fillStyle = "#fff";
    pen.fillText(words, x + pad, top + 1.12 * size);
  }
}
