// A plane of models: x how near to the truth, y how like real frames. Samples come from the kernel one point at a time; a page holds them.

const HEIGHT = 380;
const EDGE = { left: 58, right: 16, top: 30, bottom: 52 };
const LINE_PX = 16;
const LETTER_PX = 6.6;  // of the axes' words, on average
const COLUMN_PX = 120;  // a column of samples is hardly narrower
const NEAR_PX = 44;  // how far from a point a finger may be
const short = (v) => {
  const size = Math.abs(v);
  const text = v === 0 ? "0" : size >= 100 ? v.toFixed(0) : size >= 0.01 ? String(Number(v.toPrecision(3))) : v.toExponential(1).replace("e-", "e−");
  return text.replace("-", "−");
};
const between = ([value, low, high]) => `${short(value)}${low === null || high === null ? "" : ` (${short(low)} to ${short(high)})`}`;

/** Round numbers from low to high, some five of them; on a logarithmic axis 1, 2 and 5 times powers of ten. */
function ticks(low, high, log) {
  const found = [];
  if (log) {
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += 1) for (const m of [1, 2, 5]) found.push(m * 10 ** e);
    const inside = found.filter((v) => v >= low && v <= high);
    return inside.length > 6 ? inside.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : inside;
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k += 1) found.push(Number((k * step).toPrecision(12)));
  return found;
}

/** An axis over intervals [value, low, high]: {low, high, at(v) in 0..1, ticks}. */
function axis(intervals, log) {
  const scale = log ? Math.log10 : (v) => v;
  const known = intervals.flatMap(finite).filter((v) => !log || v > 0).map(scale);
  let low = Math.min(...known);
  let high = Math.max(...known);
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  low -= pad;
  high += pad;
  const raw = log ? (v) => 10 ** v : (v) => v;
  const at = (v) => (log && v <= 0 ? 0 : Math.max(0, Math.min(1, (scale(v) - low) / (high - low))));
  return { at, ticks: ticks(raw(low), raw(high), log) };
}

/** Where pictures come from: load(name) -> image; a point's index, or "truth". Rejects where there is none. */
function samples(model, onSilence) {
  const inPage = model.get("_pictures");
  const channel = inPage ? null : kernel(model, onSilence);
  const cache = new Map();
  const fetched = async (name) => {
    if (inPage) {
      if (!inPage[name]) throw new Error("not in this page, for want of room");
      return decoded(inPage[name]);
    }
    const { message, buffers } = await channel.ask(name === "truth" ? { kind: "truth" } : { kind: "samples", point: name });
    return decodedBytes(buffers[0], message.mime);
  };
  return {
    load(name) {
      if (!cache.has(name)) {
        const image = fetched(name);
        image.catch(() => cache.delete(name));
        cache.set(name, image);
      }
      return cache.get(name);
    },
    forget() { channel?.forget(); cache.clear(); },
    close() { channel?.close(); },
  };
}

/** Bars around 1 on a logarithmic scale: the ratio of two standard deviations, by channel. */
function bars({ labels, values }, color) {
  const WIDTH = 300;
  const TALL = 112;
  const [top, bottom] = [16, TALL - 38];  // room for the numbers above and below
  const steps = finite(values).map(Math.log2);
  const [low, high] = [Math.min(-0.3, ...steps), Math.max(0.3, ...steps)];
  const y = (v) => bottom - ((Math.log2(v) - low) / (high - low)) * (bottom - top);
  const each = (WIDTH - 24) / values.length;
  const wide = Math.min(30, each * 0.6);
  const said = labels.map((l, k) => `${l} ${values[k] === null ? "unknown" : number(values[k])}`).join(", ");
  const node = svg("svg", { class: "wrp-bars", viewBox: `0 0 ${WIDTH} ${TALL}`, role: "img", "aria-label": `predicted over true standard deviation: ${said}` });
  const text = (words, x, at, anchor = "middle") => Object.assign(svg("text", { x, y: at, "text-anchor": anchor }), { textContent: words });
  node.append(svg("line", { class: "wrp-one", x1: 18, x2: WIDTH, y1: y(1), y2: y(1) }), text("1", 10, y(1) + 4));
  const every = Math.ceil(values.length / 10);
  values.forEach((v, k) => {
    const x = 22 + each * (k + 0.5);
    if (k % every === 0) node.append(text(labels[k], x, TALL - 4));
    if (v === null) return;
    node.append(svg("rect", { x: (x - wide / 2).toFixed(1), width: wide.toFixed(1), y: Math.min(y(v), y(1)).toFixed(1), height: Math.max(1, Math.abs(y(v) - y(1))).toFixed(1), fill: color }));
    if (k % every === 0) node.append(text(number(v), x, v >= 1 ? y(v) - 5 : y(v) + 13));
  });
  return node;
}

function render({ model, el: host }) {
  const root = holder(host, "wrp-frontier", "Frontier explorer");
  const points = model.get("_catalog") ?? [];
  const state = el("p", { className: "wrp-state" });
  state.setAttribute("role", "status");
  if (!points.length) {
    state.textContent = "No points to show: this explorer was given an empty list.";
    root.append(state);
    return () => root.remove();
  }
  const { columns, size, truth } = model.get("_scene");
  let silent = false;
  let turn = 0;
  const again = () => el("button", { type: "button", textContent: "Try again", onclick: () => { silent = false; source.forget(); show(); } });
  const source = samples(model, (is) => {
    silent = is;
    if (!is) return;
    root.dataset.state = "silent";
    state.replaceChildren("No answer from the kernel: it is busy with another cell, or gone (then run the cell again). ", again());
  });
  const models = [...new Set(points.map((p) => p.model))];
  const styles = Object.fromEntries(models.map((m) => [m, styleOf(model, m)]));
  const named = (p) => styles[p.model].label + (p.setting ? `, ${p.setting}` : "");
  const chosen = () => Math.max(0, Math.min(points.length - 1, model.get("chosen")));

  const list = el("select", {}, ...points.map((p, i) => el("option", { value: String(i), textContent: named(p) })));
  const plane = svg("svg", { class: "wrp-plane", role: "radiogroup", "aria-label": "models in the plane; arrow keys choose" });
  const legend = el("p", { className: "wrp-legend" });
  const title = el("h4");
  const card = el("dl");
  const note = el("p");
  const spread = el("figure");
  const row = el("p", { className: "wrp-legend" });
  const cells = Array.from({ length: columns }, (_, k) => {
    const canvas = () => {
      const made = el("canvas");
      made.style.aspectRatio = `${size[0]} / ${size[1]}`;
      made.setAttribute("role", "img");
      return made;
    };
    const label = model.get("labels")[k] ?? "";
    return { label, truth: truth ? canvas() : null, sample: canvas() };
  });
  const strip = el("div", { className: "wrp-columns" }, ...cells.map((c) => el("figure", {}, ...(c.truth ? [c.truth] : []), c.sample, ...(c.label ? [el("figcaption", { textContent: c.label })] : []))));
  const about = el("div", { className: "wrp-about" }, el("label", {}, "point ", list), title, card, spread, note);
  root.append(el("div", { className: "wrp-two" }, el("div", {}, plane, legend), about), row, strip, state);

  const across = axis(points.map((p) => p.x), false);
  const upward = axis(points.map((p) => p.y), model.get("log_y"));
  const swatch = (color, text) => {
    const made = el("span", { className: "wrp-name", textContent: text });
    made.style.setProperty("--row", color);
    return made;
  };
  legend.append(...models.map((m) => swatch(styles[m].color, styles[m].label)));
  if (points.some((p) => p.on_frontier)) legend.append(el("span", { textContent: "filled: no other point is better both ways; bars: intervals" }));

  let width = 0;
  let at = [];
  let marks = [];
  const write = (words, attributes) => Object.assign(svg("text", attributes), { textContent: words });
  const joined = (indices) => `M${indices.map((i) => at[i].map((v) => v.toFixed(1)).join(" ")).join("L")}`;

  /** Everything of the plane but what the choice changes. */
  function build() {
    width = Math.max(260, plane.clientWidth || 560);
    plane.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    // What an axis is and which way is better share a line where there is room.
    const [tight, narrow] = [["y", 4], ["x", EDGE.left]].map(([name, from]) => (model.get(`${name}_label`) + model.get(`${name}_better`)).length * LETTER_PX + from + 24 > width);
    const top = EDGE.top + (tight ? LINE_PX : 0);
    const bottom = EDGE.bottom + (narrow ? LINE_PX : 0);
    const x = (v) => EDGE.left + across.at(v) * (width - EDGE.left - EDGE.right);
    const y = (v) => HEIGHT - bottom - upward.at(v) * (HEIGHT - top - bottom);
    at = points.map((p) => [x(p.x[0]), y(p.y[0])]);
    const back = svg("g", { "aria-hidden": "true" });
    for (const v of upward.ticks) back.append(svg("line", { class: "wrp-grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(v), y2: y(v) }), write(short(v), { x: EDGE.left - 8, y: y(v) + 4, "text-anchor": "end" }));
    let free = -Infinity;  // tick labels that would touch are left out
    for (const v of across.ticks) {
      if (x(v) - free < 40) continue;
      free = x(v);
      back.append(svg("line", { class: "wrp-tick", x1: x(v), x2: x(v), y1: HEIGHT - bottom, y2: HEIGHT - bottom + 4 }), write(short(v), { x: x(v), y: HEIGHT - bottom + 18, "text-anchor": "middle" }));
    }
    back.append(
      svg("line", { class: "wrp-tick", x1: EDGE.left, x2: width - EDGE.right, y1: HEIGHT - bottom, y2: HEIGHT - bottom }),
      write(model.get("y_label") + (model.get("log_y") ? ", log" : ""), { x: 4, y: 14 }),
      write(model.get("y_better"), { x: width - EDGE.right, y: tight ? 14 + LINE_PX : 14, "text-anchor": "end", class: "wrp-better" }),
      write(model.get("x_label"), { x: EDGE.left, y: HEIGHT - 10 - (narrow ? LINE_PX : 0) }),
      write(model.get("x_better"), { x: width - EDGE.right, y: HEIGHT - 10, "text-anchor": "end", class: "wrp-better" }),
    );
    const best = points.flatMap((p, i) => (p.on_frontier ? [i] : [])).sort((a, b) => at[a][0] - at[b][0]);
    if (best.length > 1) back.append(svg("path", { class: "wrp-front", d: joined(best) }));
    for (const m of models) {
      const own = points.flatMap((p, i) => (p.model === m ? [i] : []));
      if (own.length > 1) back.append(svg("path", { class: "wrp-joint", stroke: styles[m].color, d: joined(own) }));
    }
    const fit = Math.max(1, Math.floor(((strip.clientWidth || width) + 10) / COLUMN_PX));
    strip.style.setProperty("--across", Math.ceil(columns / Math.ceil(columns / fit)));  // rows of the same length
    marks = points.map((p, i) => {
      const [cx, cy] = at[i];
      const { color } = styles[p.model];
      const whisker = ([, low, high], one) => (low === null || high === null ? [] : [svg("line", { class: "wrp-whisker", stroke: color, ...one(low, high) })]);
      const mark = svg("g", { class: "wrp-point", role: "radio" },
        ...whisker(p.x, (low, high) => ({ x1: x(low), x2: x(high), y1: cy, y2: cy })), ...whisker(p.y, (low, high) => ({ x1: cx, x2: cx, y1: y(low), y2: y(high) })),
        svg("circle", { class: "wrp-ring", cx, cy, r: 11 }), svg("circle", { class: p.on_frontier ? "" : "wrp-hollow", cx, cy, r: 6, fill: color, stroke: color }));
      mark.setAttribute("aria-label", said(p));
      mark.append(Object.assign(svg("title", {}), { textContent: said(p) }));
      return mark;
    });
    const words = svg("g", { class: "wrp-words", "aria-hidden": "true" });
    plane.replaceChildren(back, ...marks, words);
    paint();
  }

  /** Names beside points, the chosen one's first; one that would cover another, or a point, is left out. */
  function label() {
    const taken = at.map(([x, y]) => [x - 7, x + 7, y - 7, y + 7]);
    const order = points.map((_, i) => i).sort((a, b) => Number(b === chosen()) - Number(a === chosen()));
    const made = [];
    for (const i of order) {
      const p = points[i];
      const first = points.findIndex((q) => q.model === p.model) === i;
      const text = i === chosen() || !p.setting ? named(p) : first ? named(p) : p.setting;
      const long = text.length * 6.3 + 2;
      const [x, y] = at[i];
      const spots = [[x + 13, y - 8], [x - 13 - long, y - 8], [x + 13, y + 16], [x - 13 - long, y + 16], [x - long / 2, y - 16], [x - long / 2, y + 26]];
      const spot = spots.map(([left, base]) => ({ left, base, box: [left, left + long, base - 11, base + 3] })).find(({ box: [l, r, t, b] }) => (
        l > EDGE.left && r < width && t > 18 && b < HEIGHT - EDGE.bottom && !taken.some(([a, c, d, e]) => l < c && r > a && t < e && b > d)));
      if (!spot) continue;
      taken.push(spot.box);
      made.push(write(text, { x: spot.left, y: spot.base, class: i === chosen() ? "wrp-picked" : "", style: `--row: ${styles[p.model].color}` }));
    }
    plane.lastChild.replaceChildren(...made);
  }
  const said = (p) => `${named(p)}: ${model.get("x_label")} ${between(p.x)}, ${model.get("y_label")} ${between(p.y)}${p.on_frontier ? "; on the frontier" : ""}`;

  function paint() {
    const now = chosen();
    const p = points[now];
    marks.forEach((mark, i) => {
      mark.setAttribute("aria-checked", String(i === now));
      mark.setAttribute("tabindex", i === now ? 0 : -1);
    });
    label();
    list.value = String(now);
    title.textContent = named(p);
    const measured = [[model.get("x_label"), between(p.x)], [model.get("y_label"), between(p.y)], ...p.card];
    card.replaceChildren(...measured.flatMap(([k, v]) => [el("dt", { textContent: k }), el("dd", { textContent: v })]));
    spread.hidden = !p.calibration;
    spread.replaceChildren(...(p.calibration ? [el("figcaption", {}, "spread by channel: predicted over true standard deviation; 1 is right"), bars(p.calibration, styles[p.model].color)] : []));
    note.textContent = [p.note, p.broken].filter(Boolean).join(" ");
    row.replaceChildren(...(columns ? [...(truth ? [swatch(styleOf(model, "truth").color === "currentColor" ? "#8a8a8a" : styleOf(model, "truth").color, "truth, above")] : []), swatch(styles[p.model].color, `${named(p)}${truth ? ", below" : ""}`)] : []));
    root.dataset.chosen = String(now);
  }

  function draw(which, image) {
    cells.forEach((cell, k) => {
      const canvas = cell[which];
      canvas.setAttribute("aria-label", [which === "truth" ? "truth" : named(points[chosen()]), cell.label || `window ${k + 1}`].join(", "));
      canvas.classList.toggle("wrp-stale", !image);
      if (image) cut(fitted(canvas, ...size), image, k, ...size);
    });
  }
  async function show() {
    const mine = ++turn;
    const now = chosen();
    const p = points[now];
    root.dataset.state = "busy";
    const wanted = [...(truth ? [["truth", "truth"]] : []), ...(p.sampled ? [["sample", now]] : [])];
    const troubles = [];
    if (!p.sampled && columns) { draw("sample", null); troubles.push("No samples were given for this point."); }
    state.replaceChildren();
    for (const [which, name] of wanted) {
      try {
        const image = await source.load(name);
        if (mine !== turn) return;
        draw(which, image);
      } catch (error) {
        if (mine !== turn || error.message === GIVEN_UP) return;
        draw(which, null);
        troubles.push(`The ${which === "truth" ? "true frames" : "samples"} could not be shown: ${error.message}.`);
        root.dataset.state = "error";
      }
    }
    if (mine !== turn) return;
    if (root.dataset.state !== "error") root.dataset.state = "ready";
    state.replaceChildren(troubles.join(" "), ...(root.dataset.state === "error" && !model.get("_pictures") ? [" ", again()] : []));
  }

  const choose = (i, focus = true) => {
    model.set("chosen", i);
    model.save_changes();
    if (focus) marks[i].focus({ preventScroll: true });
  };
  /** The next point along an axis (0: x, 1: y), in pixels. */
  function step(along, way) {
    const order = points.map((_, i) => i).sort((a, b) => way * (at[a][along] - at[b][along]) || way * (a - b));
    choose(order[Math.min(points.length - 1, order.indexOf(chosen()) + 1)]);
  }
  plane.addEventListener("click", (event) => {
    const box = plane.getBoundingClientRect();
    const here = [event.clientX - box.left, event.clientY - box.top].map((v) => (v * width) / box.width);
    const far = at.map(([x, y]) => Math.hypot(x - here[0], y - here[1]));
    const least = far.indexOf(Math.min(...far));
    if (far[least] > NEAR_PX) return;
    choose(least);
  });
  const keys = {
    ArrowRight: () => step(0, 1), ArrowLeft: () => step(0, -1), ArrowDown: () => step(1, 1), ArrowUp: () => step(1, -1),
    Home: () => choose(0), End: () => choose(points.length - 1),
  };
  onKeys(plane, keys, () => false);
  list.onchange = () => choose(Number(list.value), false);

  const sized = new ResizeObserver(() => { if (plane.clientWidth && Math.abs(plane.clientWidth - width) > 1) { const held = plane.contains(document.activeElement); build(); if (held) marks[chosen()].focus({ preventScroll: true }); show(); } });
  const onChoice = () => { paint(); show(); };
  model.on("change:chosen", onChoice);
  build();
  show();
  sized.observe(plane);
  return () => {
    turn += 1;
    sized.disconnect();
    source.close();
    model.off("change:chosen", onChoice);
  };
}

export default { render };
