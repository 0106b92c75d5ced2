// Rows of frames as files: a picture of moments side by side, or a film. Made in the browser, so that a page can, too.

/** Let the browser save a blob as a file. */
function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/** Drawing for files: rows of named pictures. `paint(context, row, i, box)` draws frame i of a row into [x, y, w, h]. */
const SHEET = { width: 192, gap: 8, text: 30, columns: 10 };
function sheetStyle(root) {
  const { color } = getComputedStyle(root);
  const paper = getComputedStyle(root).getPropertyValue("--wrp-paper");
  const probe = document.body.appendChild(el("i", { hidden: true }));
  probe.style.cssText = `color-scheme:${getComputedStyle(root).colorScheme};color:${paper}`;
  const ground = getComputedStyle(probe).color;
  probe.remove();
  return { ink: color, ground };
}
function blank(width, height, { ink, ground }) {
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d");
  const clear = () => {
    context.globalCompositeOperation = "source-over";
    context.fillStyle = ground;
    context.fillRect(0, 0, width, height);
    context.font = "15px sans-serif";
    context.textBaseline = "middle";
    context.imageSmoothingQuality = "high";
  };
  const write = (text, x, y, swatch) => {
    if (swatch) { context.fillStyle = swatch === "currentColor" ? ink : swatch; context.fillRect(x, y - 2, 14, 4); }
    context.fillStyle = ink;
    context.fillText(text, x + (swatch ? 21 : 0), y);
  };
  clear();
  return { canvas, context, clear, write };
}

/** A PNG: a row for each model under its name, a column for each moment, evenly chosen where there are many. */
async function pictureOf(cells, times, shape, style, paint) {
  const { width, gap, text, columns } = SHEET;
  const count = Math.min(columns, times.length);
  const chosen = Array.from({ length: count }, (_, k) => Math.round((k * (times.length - 1)) / Math.max(1, count - 1)));
  const height = Math.round(width / shape);
  const { canvas, context, write } = blank(count * (width + gap) + gap, text + cells.length * (text + height + gap), style);
  chosen.forEach((i, k) => write(clock(times[i]), gap + k * (width + gap), text / 2 + 4));
  cells.forEach((cell, r) => {
    const top = text + r * (text + height + gap);
    write(cell.label, gap, top + text / 2, cell.color);
    chosen.forEach((i, k) => paint(context, cell.row, i, [gap + k * (width + gap), top + text, width, height]));
  });
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

/** A WebM of the models side by side, recorded while it plays once. */
async function filmOf(cells, times, shape, style, paint, fps) {
  const { gap, text } = SHEET;
  const width = 256;
  const height = Math.round(width / shape);
  const most = shape > 1.3 ? 2 : 4;
  const across = Math.ceil(cells.length / Math.ceil(cells.length / most));
  const even = (v) => v + (v % 2);
  const down = Math.ceil(cells.length / across);
  const { canvas, context, clear, write } = blank(even(across * (width + gap) + gap), even(text + down * (text + height + gap)), style);
  const stream = canvas.captureStream(0);
  const recorder = new MediaRecorder(stream, { mimeType: "video/webm", videoBitsPerSecond: 8e6 });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const done = new Promise((resolve, reject) => { recorder.onstop = resolve; recorder.onerror = ({ error }) => reject(error); });
  const wait = () => new Promise((resolve) => { setTimeout(resolve, 1000 / Math.max(0.1, fps)); });
  const draw = (i) => {
    clear();
    write(clock(times[i]), gap, text / 2 + 4);
    cells.forEach((cell, k) => {
      const [x, y] = [gap + (k % across) * (width + gap), text + Math.floor(k / across) * (text + height + gap)];
      write(cell.label, x, y + text / 2, cell.color);
      paint(context, cell.row, i, [x, y + text, width, height]);
    });
    stream.getVideoTracks()[0].requestFrame();
  };
  recorder.start();
  for (let i = 0; i < times.length; i += 1) { draw(i); await wait(); }
  draw(times.length - 1);  // the last one is held as long as the others
  await wait();
  recorder.stop();
  await done;
  return new Blob(parts, { type: "video/webm" });
}
