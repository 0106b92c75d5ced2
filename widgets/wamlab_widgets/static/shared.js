// What every widget's module begins with: the Python side puts this text before each of them, in the notebook and in a page.
// All share the class prefix `wrp-` and the stylesheet beside this file. A strip holds frame t at column t % columns and row
// t / columns, with columns = strip width / frame width.

const SVG = "http://www.w3.org/2000/svg";
const KERNEL_PATIENCE_MS = 8000;
const GIVEN_UP = "given up";

const el = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};
const svg = (tag, attributes, ...children) => {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};
/** The element that holds a widget: named, and with its keys kept from the shortcuts of JupyterLab, which takes the arrows else. Those it
 *  matches from the element in focus upwards, and stops at this attribute: on the holder alone it comes too late for what is inside. */
function holder(host, className, label, tabIndex = -1) {
  const root = host.appendChild(el("div", { className: `wrp ${className}`.trim(), tabIndex }));
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", label);
  root.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
  return root;
}
const finite = (values) => values.filter((v) => v !== null && v !== undefined);
const number = (v, signed = false) => (v === null || v === undefined ? "–"
  : `${signed && v > 0 ? "+" : ""}${Math.abs(v) >= 100 ? v.toFixed(0) : Math.abs(v) >= 10 ? v.toFixed(1) : v.toFixed(2)}`.replace("-", "−"));
const clock = (s) => (s === 0 ? "now" : `${s > 0 ? "+" : "−"}${Math.abs(s).toFixed(1)} s`);

/** Points of a small line: "M x y L …", with gaps where a value is missing. */
function path(values, low, high, width, height, pad = 3) {
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

/** A sparkline with a cursor, and perhaps another line behind it: returns {node, at(i)}. */
function sparkline(values, { low, high, color, zero = false, height = 34, behind = null }) {
  const width = 240;
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "wrp-spark" });
  const line = path(values, low, high, width, height);
  if (zero && low < 0 && high > 0) node.append(svg("line", { x1: 0, x2: width, y1: line.y(0), y2: line.y(0), class: "wrp-zero" }));
  if (behind) node.append(svg("path", { d: path(behind, low, high, width, height).d, class: "wrp-line wrp-behind" }));
  node.append(svg("path", { d: line.d, class: "wrp-line", stroke: color }));
  const cursor = svg("line", { y1: 0, y2: height, class: "wrp-cursor" });
  node.append(cursor);
  return { node, at(i) { const x = line.x(i).toFixed(1); cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); } };
}

/** An address -> its image, ready to be drawn. */
const decoded = (source) => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => resolve(image);
  image.onerror = () => reject(new Error("a strip of frames could not be decoded"));
  image.src = source;
});

/** The bytes of an image file, as the kernel sends them -> the same. */
async function decodedBytes(buffer, mime) {
  const address = URL.createObjectURL(new Blob([buffer], { type: mime }));
  try { return await decoded(address); } finally { URL.revokeObjectURL(address); }
}

/** Give a canvas as many pixels as it is shown with; returns its context. */
function fitted(canvas, width, height) {
  const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
  const shown = Math.round((canvas.clientWidth || width) * ratio);
  if (canvas.width !== shown) { canvas.width = shown; canvas.height = Math.round((shown * height) / width); }
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-over";
  context.globalAlpha = 1;
  context.imageSmoothingQuality = "high";
  return context;
}

/** Frame i of a strip, over the whole canvas. */
function cut(context, strip, i, width, height) {
  const columns = Math.max(1, Math.floor(strip.naturalWidth / width));
  context.drawImage(strip, (i % columns) * width, Math.floor(i / columns) * height, width, height, 0, 0, context.canvas.width, context.canvas.height);
}

/** Questions to the kernel: ask(content) -> {message, buffers}; rejects with the kernel's words. Where no answer comes for a while,
 *  `onSilence(true)` is called and the question stays open: a kernel may be busy with another cell. `forget()` gives the open ones up. */
function kernel(model, onSilence = () => {}) {
  const open = new Map();
  const view = Math.random().toString(36).slice(2);  // two views of one widget hear each other's answers
  let last = 0;
  const settle = (id) => {
    const question = open.get(id);
    open.delete(id);
    clearTimeout(question?.timer);
    return question;
  };
  const receive = (message, buffers) => {
    const question = settle(message.id);
    if (!question) return;
    onSilence(false);
    if (message.error) question.reject(new Error(message.error));
    else question.resolve({ message, buffers });
  };
  model.on("msg:custom", receive);
  const forget = () => { for (const id of [...open.keys()]) settle(id).reject(new Error(GIVEN_UP)); };
  return {
    ask: (content) => new Promise((resolve, reject) => {
      const id = `${view}-${++last}`;
      open.set(id, { resolve, reject, timer: setTimeout(() => onSilence(true), KERNEL_PATIENCE_MS) });
      try { model.send({ ...content, id }); } catch (error) { settle(id); reject(error); }
    }),
    forget,
    close() { forget(); model.off("msg:custom", receive); },
  };
}

/** A line at the time `plot.wamlabTime` across each panel of a plotly figure, whose axes tell where that is in pixels. */
function markPlot(plot) {
  const layout = plot._fullLayout ?? {};
  const room = plot.querySelector(".svg-container");
  const axes = Object.entries(layout).filter(([name, axis]) => /^xaxis\d*$/.test(name) && axis.l2p).map(([, axis]) => axis);
  const lines = [...plot.querySelectorAll(".wamlab-time")];
  axes.forEach((x, k) => {
    const line = lines[k] ?? room.appendChild(el("div", { className: "wamlab-time" }));
    const y = layout[(x._mainSubplot ?? "").match(/y\d*$/)?.[0].replace("y", "yaxis")] ?? layout.yaxis;
    const at = x.l2p(plot.wamlabTime);
    line.style.cssText = `position:absolute;pointer-events:none;width:1px;background:#888;left:${x._offset + at}px;top:${y._offset}px;height:${y._length}px`;
    line.hidden = !(at >= -0.5 && at <= x._length + 0.5);
  });
}

/** One time for all that name the same group, wherever they are on the page; each shows its frame that is nearest to it. */
function sharedTime(model, times) {
  const NAME = "wamlab-time";
  let following = false;
  let saving = 0;
  const tell = () => {
    const group = model.get("group");
    if (!group || following) return;
    const seconds = times()[Math.min(model.get("frame"), times().length - 1)];
    document.dispatchEvent(new CustomEvent(NAME, { detail: { group, seconds, from: model } }));
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      if (plot.layout?.meta?.group !== group) continue;
      if (plot.wamlabTime === undefined) plot.on("plotly_afterplot", () => markPlot(plot));
      plot.wamlabTime = seconds;
      markPlot(plot);
    }
  };
  const hear = ({ detail: { group, seconds, from } }) => {
    if (from === model || group !== model.get("group")) return;
    const far = times().map((s) => Math.abs(s - seconds));
    following = true;
    try { model.set("frame", far.indexOf(Math.min(...far))); } finally { following = false; }
    clearTimeout(saving);
    saving = setTimeout(() => model.save_changes(), 200);
  };
  model.on("change:frame", tell);
  document.addEventListener(NAME, hear);
  return () => {
    clearTimeout(saving);
    model.off("change:frame", tell);
    document.removeEventListener(NAME, hear);
  };
}

/** Play button, time slider and clock on the traits `frame` and `fps`. `times()` -> seconds of each frame; `loop`: start over at the end. */
function transport(model, times, { loop = false } = {}) {
  const play = el("button", { type: "button", className: "wrp-play" });
  const slider = el("input", { type: "range", min: "0", step: "1", className: "wrp-time" });
  slider.setAttribute("aria-label", "time from the present");
  const time = el("output", { className: "wrp-clock" });
  const node = el("div", { className: "wrp-controls" }, play, slider, time);
  let timer = 0;
  const alone = sharedTime(model, times);
  const last = () => times().length - 1;
  const frame = () => Math.min(Math.max(0, model.get("frame")), last());
  const playing = () => timer !== 0;
  function label() {
    play.textContent = playing() ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing() ? "pause" : "play");
  }
  function stop() { clearInterval(timer); timer = 0; label(); model.save_changes(); }
  function start() {
    if (frame() === last()) model.set("frame", 0);
    timer = setInterval(() => {
      if (frame() < last()) model.set("frame", frame() + 1);
      else if (loop) model.set("frame", 0);
      else stop();
    }, 1000 / Math.max(0.1, model.get("fps")));
    label();
  }
  const go = (i) => { model.set("frame", Math.min(Math.max(0, i), last())); if (!playing()) model.save_changes(); };
  const toggle = () => (playing() ? stop() : start());
  play.onclick = toggle;
  slider.oninput = () => model.set("frame", Number(slider.value));
  slider.onchange = () => model.save_changes();
  label();
  return {
    node, frame, stop,
    keys: { ArrowRight: () => go(frame() + 1), ArrowLeft: () => go(frame() - 1), Home: () => go(0), End: () => go(last()), " ": toggle },
    draw() {
      const i = frame();
      slider.max = String(last());
      slider.value = String(i);
      slider.setAttribute("aria-valuetext", `${clock(times()[i])}, frame ${i} of ${last()}`);
      time.textContent = clock(times()[i]);
    },
    close() { clearInterval(timer); alone(); },
  };
}

/** Do what a key means in `keys`; keys pressed with a modifier, or while `elsewhere(target)` needs them, are left alone. */
function onKeys(root, keys, elsewhere) {
  root.addEventListener("keydown", (event) => {
    const does = keys[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey || elsewhere(event.target, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    does();
  });
}

const styleOf = (model, row) => ({ color: "currentColor", label: row, ...(model.get("styles")?.[row] ?? {}) });

/** A named picture with a place for what is measured on it. */
function picture(label, color, width, height) {
  const canvas = el("canvas");
  canvas.style.aspectRatio = `${width} / ${height}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const value = el("span", { className: "wrp-value" });
  const name = el("span", { className: "wrp-name", textContent: label });
  name.style.setProperty("--row", color);
  return { figure: el("figure", {}, el("figcaption", {}, name, value), canvas), canvas, value };
}

/** Pictures side by side, as many as look well at their shape (width / height). */
function arrange(stage, figures, shape) {
  const wide = shape > 1.3;
  const most = wide ? (figures.length % 3 === 0 ? 3 : 2) : figures.length === 5 ? 5 : figures.length % 3 === 0 ? 3 : 4;
  stage.style.setProperty("--columns", Math.min(figures.length, most));
  stage.style.setProperty("--narrow", Math.min(figures.length, wide ? 1 : 2));
  stage.replaceChildren(...figures);
}
