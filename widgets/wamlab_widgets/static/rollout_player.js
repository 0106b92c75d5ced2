// Rows of frames that share one time. Live, a scene's strips come from the kernel as binary buffers; in a page they are in the state.

/** Where a scene's strips come from: load(i) -> {row: image}. */
function pictures(model, onSilence) {
  const cache = new Map();
  const fromPage = async (i) => {
    const entries = Object.entries(model.get("_strips")[i]);
    return Object.fromEntries(await Promise.all(entries.map(async ([row, uri]) => [row, await decoded(uri)])));
  };
  const channel = Array.isArray(model.get("_strips")) ? null : kernel(model, onSilence);
  const fromKernel = async (i) => {
    const { message, buffers } = await channel.ask({ kind: "strips", scene: i });
    const images = await Promise.all(buffers.map((buffer) => decodedBytes(buffer, message.mime)));
    return Object.fromEntries(message.rows.map((row, k) => [row, images[k]]));
  };
  return {
    load(i) {
      if (!cache.has(i)) {
        const images = channel ? fromKernel(i) : fromPage(i);
        images.catch(() => cache.delete(i));
        cache.set(i, images);
      }
      return cache.get(i);
    },
    forget() { channel?.forget(); cache.clear(); },
    close() { channel?.close(); },
  };
}

function render({ model, el: host }) {
  const root = holder(host, "", "Rollout player");
  const catalog = model.get("_catalog") ?? [];
  if (!catalog.length) {
    root.append(el("p", { className: "wrp-state", textContent: "No scenes to show: this player was given an empty list." }));
    return () => root.remove();
  }

  const again = () => { source.forget(); show(scene); };
  const retry = () => el("button", { type: "button", textContent: "Try again", onclick: again });
  const source = pictures(model, (silent) => {
    if (silent) state.replaceChildren("No answer from the kernel: it is busy with another cell, or gone (then run the cell again). ", retry());
  });
  const truth = model.get("truth");
  const select = el("select", {}, ...catalog.map((s, i) => el("option", { value: String(i), textContent: s.note ? `${s.name}, ${s.note}` : s.name })));
  const difference = el("input", { type: "checkbox" });
  const differ = el("label", { className: "wrp-check" }, difference, "difference from truth");
  const head = el("div", { className: "wrp-head" });
  if (catalog.length > 1) head.append(el("label", {}, "scene ", select));
  const stage = el("div", { className: "wrp-stage" });
  const state = el("p", { className: "wrp-state" });
  state.setAttribute("role", "status");
  const player = transport(model, () => catalog[scene].times_s);
  const { frame, stop } = player;
  const traces = el("div", { className: "wrp-traces" });
  const saves = el("div", { className: "wrp-presets wrp-saves" });
  root.append(head, stage, state, player.node, traces, saves);

  let scene = 0;
  let images = null;
  let cells = [];
  let sparks = [];
  let turn = 0;

  function build() {
    const now = catalog[scene];
    const errors = finite(Object.values(now.errors).flat());
    const low = Math.min(0, ...errors);
    const high = Math.max(0, ...errors) || 1;
    const fastest = Math.max(0, ...finite(Object.values(now.motion).flat())) || 1;
    const [width, height] = now.size;
    select.value = String(scene);
    differ.remove();
    if (now.rows.includes(truth) && now.rows.length > 1) head.append(differ);
    sparks = [];
    cells = now.rows.map((row) => {
      const { color, label } = styleOf(model, row);
      const { figure, canvas, value } = picture(label, color, width, height);
      const values = now.errors[row];
      if (values) {
        const spark = sparkline(values, { low, high, color });
        figure.append(spark.node);
        sparks.push(spark);
      } else if (errors.length) figure.append(el("div", { className: "wrp-spark" }));
      if (now.motion[row]) {
        const text = el("p", { className: "wrp-value wrp-motion" });
        const spark = sparkline(now.motion[row], { low: 0, high: fastest, color, behind: row === truth ? null : now.motion[truth] });
        figure.append(text, spark.node);
        sparks.push({ at(i) { spark.at(i); text.textContent = `${model.get("motion")} ${number(now.motion[row][i])}`; } });
      }
      return { row, label, color, canvas, value, values };
    });
    arrange(stage, cells.map((c) => c.canvas.parentNode), width / height);
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
    player.draw();
    sparks.forEach((s) => s.at(i));
    const compare = difference.checked && now.rows.includes(truth);
    for (const { row, label, canvas, value, values } of cells) {
      const error = values?.[i];
      value.textContent = values && error !== null ? `${model.get("metric")} ${number(error)}` : "";
      canvas.setAttribute("aria-label", `${label}, ${clock(now.times_s[i])}${value.textContent ? `, ${value.textContent}` : ""}`);
      if (!images) continue;
      const context = fitted(canvas, width, height);
      cut(context, images[row], i, width, height);
      const against = compare && row !== truth;
      canvas.classList.toggle("wrp-difference", against);
      if (against) { context.globalCompositeOperation = "difference"; cut(context, images[truth], i, width, height); }
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
      state.replaceChildren(`The frames could not be shown: ${error.message} `, retry());
    }
  }

  /** Frame i of a row into a file's picture, the difference from the truth where that is shown. */
  function paintInto(context, row, i, [x, y, w, h]) {
    const [width, height] = catalog[scene].size;
    const put = (strip) => {
      const columns = Math.max(1, Math.floor(strip.naturalWidth / width));
      context.drawImage(strip, (i % columns) * width, Math.floor(i / columns) * height, width, height, x, y, w, h);
    };
    const against = difference.checked && row !== truth && images[truth];
    context.filter = against ? "brightness(2.2)" : "none";
    if (against) {
      const both = fitted(el("canvas", { width: 0 }), w, h);
      cut(both, images[row], i, width, height);
      both.globalCompositeOperation = "difference";
      cut(both, images[truth], i, width, height);
      context.drawImage(both.canvas, x, y, w, h);
    } else put(images[row]);
    context.filter = "none";
  }
  const saver = (text, ending, make) => {
    const button = el("button", { type: "button", textContent: text });
    button.onclick = async () => {
      const { name, times_s: times, size: [width, height] } = catalog[scene];
      if (!images) return;
      stop();
      button.disabled = true;
      try { save(await make(cells, times, width / height, sheetStyle(root), paintInto, model.get("fps")), `${name.replace(/[^\w-]+/g, "_")}.${ending}`); }
      catch (error) { state.textContent = `It could not be saved: ${error.message}`; }
      button.disabled = false;
    };
    return button;
  };
  saves.append(saver("Save picture (PNG)", "png", pictureOf), ...(globalThis.MediaRecorder?.isTypeSupported("video/webm") ? [saver("Save film (WebM)", "webm", filmOf)] : []));

  const choose = (i) => { model.set("scene", (i + catalog.length) % catalog.length); model.save_changes(); };

  select.onchange = () => choose(Number(select.value));
  difference.onchange = paint;
  const keys = { ...player.keys, PageDown: () => choose(scene + 1), PageUp: () => choose(scene - 1) };
  onKeys(root, keys, (target, key) => target === select || (key === " " && (target === difference || (target.tagName === "BUTTON" && target.className !== "wrp-play"))));
  stage.addEventListener("pointerdown", () => root.focus({ preventScroll: true }));

  const sized = new ResizeObserver(() => paint());
  sized.observe(stage);
  const onScene = () => { stop(); show(model.get("scene")); };
  model.on("change:frame", paint);
  model.on("change:scene", onScene);
  show(model.get("scene"));
  return () => {
    player.close();
    sized.disconnect();
    source.close();
    model.off("change:frame", paint);
    model.off("change:scene", onScene);
  };
}

export default { render };
