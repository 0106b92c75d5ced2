// Rows of frames that share one time. Live, a scene's strips come from the kernel as binary buffers; in a page they are in the state.
// A strip holds frame t at column t % columns and row t / columns, with columns = strip width / frame width.

const SVG = "http://www.w3.org/2000/svg";
const KERNEL_PATIENCE_MS = 8000;

const el = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};
const svg = (tag, attributes) => {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const finite = (values) => values.filter((v) => v !== null && v !== undefined);
const number = (v, signed = false) => (v === null || v === undefined ? "–"
  : `${signed && v > 0 ? "+" : ""}${Math.abs(v) >= 100 ? v.toFixed(0) : Math.abs(v) >= 10 ? v.toFixed(1) : v.toFixed(2)}`.replace("-", "−"));
export const clock = (s) => (s === 0 ? "now" : `${s > 0 ? "+" : "−"}${Math.abs(s).toFixed(1)} s`);

/** Points of a small line: "M x y L …", with gaps where a value is missing. */
export function path(values, low, high, width, height, pad = 3) {
  const x = (i) => pad + (values.length < 2 ? 0 : (i / (values.length - 1)) * (width - 2 * pad));
  const y = (v) => height - pad - ((v - low) / (high - low || 1)) * (height - 2 * pad);
  let pen = "M";
  let out = "";
  values.forEach((v, i) => {
    if (v === null || v === undefined) { pen = "M"; return; }
    out += `${pen}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    pen = "L";
  });
  return { d: out, x, y };
}

/** A sparkline with a cursor: returns {node, at(i)}. */
function sparkline(values, { low, high, color, zero = false, height = 34 }) {
  const width = 240;
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "wrp-spark" });
  const line = path(values, low, high, width, height);
  if (zero && low < 0 && high > 0) node.append(svg("line", { x1: 0, x2: width, y1: line.y(0), y2: line.y(0), class: "wrp-zero" }));
  node.append(svg("path", { d: line.d, class: "wrp-line", stroke: color }));
  const cursor = svg("line", { y1: 0, y2: height, class: "wrp-cursor" });
  node.append(cursor);
  return { node, at(i) { const x = line.x(i).toFixed(1); cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); } };
}

const decoded = (source) => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => resolve(image);
  image.onerror = () => reject(new Error("a strip of frames could not be decoded"));
  image.src = source;
});

/** Where a scene's strips come from: load(i) -> {row: image}. */
function pictures(model) {
  const cache = new Map();
  const fromPage = async (i) => {
    const entries = Object.entries(model.get("_strips")[i]);
    return Object.fromEntries(await Promise.all(entries.map(async ([row, uri]) => [row, await decoded(uri)])));
  };
  const waiting = new Map();
  let last = 0;
  const receive = async (message, buffers) => {
    const request = waiting.get(message.id);
    if (!request) return;
    waiting.delete(message.id);
    clearTimeout(request.timer);
    if (message.error) { request.reject(new Error(message.error)); return; }
    try {
      const images = await Promise.all(buffers.map(async (buffer) => {
        const address = URL.createObjectURL(new Blob([buffer], { type: message.mime }));
        try { return await decoded(address); } finally { URL.revokeObjectURL(address); }
      }));
      request.resolve(Object.fromEntries(message.rows.map((row, k) => [row, images[k]])));
    } catch (error) { request.reject(error); }
  };
  const fromKernel = (i) => new Promise((resolve, reject) => {
    const id = ++last;
    const timer = setTimeout(() => {
      waiting.delete(id);
      reject(new Error("no answer from the kernel; run the cell again"));
    }, KERNEL_PATIENCE_MS);
    waiting.set(id, { resolve, reject, timer });
    model.send({ kind: "strips", id, scene: i });
  });
  const inPage = Array.isArray(model.get("_strips"));
  if (!inPage) model.on("msg:custom", receive);
  return {
    load(i) {
      if (!cache.has(i)) {
        const images = inPage ? fromPage(i) : fromKernel(i);
        images.catch(() => cache.delete(i));
        cache.set(i, images);
      }
      return cache.get(i);
    },
    close() { if (!inPage) model.off("msg:custom", receive); waiting.forEach((r) => clearTimeout(r.timer)); },
  };
}

function render({ model, el: host }) {
  const root = el("div", { className: "wrp", tabIndex: -1 });
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Rollout player");
  host.append(root);
  const catalog = model.get("_catalog") ?? [];
  if (!catalog.length) {
    root.append(el("p", { className: "wrp-state", textContent: "No scenes to show: this player was given an empty list." }));
    return () => root.remove();
  }

  const source = pictures(model);
  const truth = model.get("truth");
  const style = (row) => ({ color: "currentColor", label: row, ...(model.get("styles")?.[row] ?? {}) });
  const select = el("select", {}, ...catalog.map((s, i) => el("option", { value: String(i), textContent: s.note ? `${s.name}, ${s.note}` : s.name })));
  const difference = el("input", { type: "checkbox" });
  const differ = el("label", { className: "wrp-check" }, difference, "difference from truth");
  const head = el("div", { className: "wrp-head" });
  if (catalog.length > 1) head.append(el("label", {}, "scene ", select));
  const stage = el("div", { className: "wrp-stage" });
  const state = el("p", { className: "wrp-state" });
  state.setAttribute("role", "status");
  const play = el("button", { type: "button", className: "wrp-play" });
  const slider = el("input", { type: "range", min: "0", step: "1", className: "wrp-time" });
  slider.setAttribute("aria-label", "time from the present");
  const time = el("output", { className: "wrp-clock" });
  const traces = el("div", { className: "wrp-traces" });
  const controls = el("div", { className: "wrp-controls" }, play, slider, time);
  root.append(head, stage, state, controls, traces);

  let scene = 0;
  let images = null;
  let cells = [];
  let sparks = [];
  let turn = 0;
  let timer = 0;

  const last = () => catalog[scene].times_s.length - 1;
  const frame = () => Math.min(Math.max(0, model.get("frame")), last());

  function build() {
    const now = catalog[scene];
    const errors = finite(Object.values(now.errors).flat());
    const low = Math.min(0, ...errors);
    const high = Math.max(0, ...errors) || 1;
    const [width, height] = now.size;
    select.value = String(scene);
    slider.max = String(last());
    differ.remove();
    if (now.rows.includes(truth) && now.rows.length > 1) head.append(differ);
    sparks = [];
    cells = now.rows.map((row) => {
      const { color, label } = style(row);
      const canvas = el("canvas");
      canvas.style.aspectRatio = `${width} / ${height}`;
      canvas.setAttribute("role", "img");
      const value = el("span", { className: "wrp-value" });
      const name = el("span", { className: "wrp-name", textContent: label });
      name.style.setProperty("--row", color);
      const figure = el("figure", {}, el("figcaption", {}, name, value), canvas);
      const values = now.errors[row];
      if (values) {
        const spark = sparkline(values, { low, high, color });
        figure.append(spark.node);
        sparks.push(spark);
      } else if (errors.length) figure.append(el("div", { className: "wrp-spark" }));
      return { row, label, canvas, value, values };
    });
    const wide = width / height > 1.3;
    const most = wide ? (cells.length % 3 === 0 ? 3 : 2) : 4;
    stage.style.setProperty("--columns", Math.min(cells.length, most));
    stage.style.setProperty("--narrow", Math.min(cells.length, wide ? 1 : 2));
    stage.replaceChildren(...cells.map((c) => c.canvas.parentNode));
    traces.replaceChildren(...now.actions.map((action) => {
      const known = finite(action.values);
      const bound = Math.max(1e-6, ...known.map(Math.abs));
      const [floor, top] = action.signed ? [-bound, bound] : [Math.min(0, ...known), bound];
      const spark = sparkline(action.values, { low: floor, high: top, color: "currentColor", zero: action.signed, height: 28 });
      const value = el("b");
      sparks.push({ at(i) { spark.at(i); value.textContent = `${number(action.values[i], action.signed)} ${action.unit}`; } });
      return el("div", {}, el("p", {}, `${action.label} `, value), spark.node);
    }));
  }

  function paint() {
    const i = frame();
    const now = catalog[scene];
    const [width, height] = now.size;
    slider.value = String(i);
    slider.setAttribute("aria-valuetext", `${clock(now.times_s[i])}, frame ${i} of ${last()}`);
    time.textContent = clock(now.times_s[i]);
    sparks.forEach((s) => s.at(i));
    const compare = difference.checked && now.rows.includes(truth);
    for (const { row, label, canvas, value, values } of cells) {
      const error = values?.[i];
      value.textContent = values && error !== null ? `${model.get("metric")} ${number(error)}` : "";
      canvas.setAttribute("aria-label", `${label}, ${clock(now.times_s[i])}${value.textContent ? `, ${value.textContent}` : ""}`);
      if (!images) continue;
      const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
      const shown = Math.round((canvas.clientWidth || width) * ratio);
      if (canvas.width !== shown) { canvas.width = shown; canvas.height = Math.round((shown * height) / width); }
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      const cut = (image) => {
        const columns = Math.max(1, Math.floor(image.naturalWidth / width));
        context.drawImage(image, (i % columns) * width, Math.floor(i / columns) * height, width, height, 0, 0, canvas.width, canvas.height);
      };
      context.globalCompositeOperation = "source-over";
      cut(images[row]);
      const against = compare && row !== truth;
      canvas.classList.toggle("wrp-difference", against);
      if (against) { context.globalCompositeOperation = "difference"; cut(images[truth]); }
    }
    root.dataset.frame = String(i);
  }

  async function show(index) {
    const mine = ++turn;
    scene = Math.min(Math.max(0, index), catalog.length - 1);
    images = null;
    build();
    paint();
    root.dataset.state = "busy";
    state.textContent = "Loading frames…";
    try {
      const loaded = await source.load(scene);
      if (mine !== turn) return;
      images = loaded;
      root.dataset.state = "ready";
      state.textContent = "";
      paint();
    } catch (error) {
      if (mine !== turn) return;
      stop();
      root.dataset.state = "error";
      state.replaceChildren(`The frames could not be shown: ${error.message} `, el("button", { type: "button", textContent: "Try again", onclick: () => show(scene) }));
    }
  }

  const playing = () => timer !== 0;
  function label() {
    play.textContent = playing() ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing() ? "pause" : "play");
  }
  function stop() { clearInterval(timer); timer = 0; label(); model.save_changes(); }
  function start() {
    if (frame() === last()) go(0);
    timer = setInterval(() => (frame() === last() ? stop() : model.set("frame", frame() + 1)), 1000 / Math.max(0.1, model.get("fps")));
    label();
  }
  const go = (i) => { model.set("frame", Math.min(Math.max(0, i), last())); if (!playing()) model.save_changes(); };
  const choose = (i) => { model.set("scene", (i + catalog.length) % catalog.length); model.save_changes(); };

  play.onclick = () => (playing() ? stop() : start());
  slider.oninput = () => model.set("frame", Number(slider.value));
  slider.onchange = () => model.save_changes();
  select.onchange = () => choose(Number(select.value));
  difference.onchange = paint;
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === select) return;
    const does = {
      ArrowRight: () => go(frame() + 1), ArrowLeft: () => go(frame() - 1), Home: () => go(0), End: () => go(last()),
      PageDown: () => choose(scene + 1), PageUp: () => choose(scene - 1),
      " ": event.target === difference ? null : () => play.onclick(),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    event.stopPropagation();
    does();
  });
  stage.addEventListener("pointerdown", () => root.focus({ preventScroll: true }));

  const sized = new ResizeObserver(() => paint());
  sized.observe(stage);
  const onScene = () => { stop(); show(model.get("scene")); };
  model.on("change:frame", paint);
  model.on("change:scene", onScene);
  label();
  show(model.get("scene"));
  return () => {
    clearInterval(timer);
    sized.disconnect();
    source.close();
    model.off("change:frame", paint);
    model.off("change:scene", onScene);
  };
}

export default { render };
