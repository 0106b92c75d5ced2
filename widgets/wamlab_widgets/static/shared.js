// What every widget's module begins with: the Python side puts this text before each of them, in the notebook and in a page.
// All share the class prefix `wrp-` and the stylesheet beside this file. A strip holds frame t at column t % columns and row
// t / columns, with columns = strip width / frame width.

const SVG = "http://www.w3.org/2000/svg";
const KERNEL_PATIENCE_MS = 8000;

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
  const forget = () => { for (const id of [...open.keys()]) settle(id).reject(new Error("given up")); };
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
