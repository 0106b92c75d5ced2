// Draw actions, see futures. Live, each row is asked of the kernel by itself and only one question is open at a time, so the next one
// is always about the newest actions; in a page the nearest of the futures computed beforehand is shown, and the page says which.

const REST_MS = 180;
const KEPT = 160;
const SETTINGS = { seed: { label: "seed", step: 1, min: 0 }, steps: { label: "sampler steps", step: 1, min: 1 }, guidance: { label: "guidance", step: 0.5, min: 0 } };
const VIEWS = { picture: "picture", difference: "difference from truth", "onion skin": "onion skin with truth", latents: "picture and latents" };

/** Index of the profile that is nearest to `actions`, each channel measured by its reach. */
function nearest(profiles, actions, limits) {
  const reach = CHANNELS.map((c) => limits[c.name]);
  let best = -1;
  let least = Infinity;
  profiles.forEach((profile, i) => {
    const distance = profile.reduce((sum, p, k) => sum + p.reduce((s, v, c) => s + ((v - actions[k][c]) / reach[c]) ** 2, 0), 0);
    if (distance < least) { least = distance; best = i; }
  });
  return best;
}

/** Futures computed beforehand. `look(row)` -> what there is to show for the nearest profile. */
function fromPage(model, changed) {
  const points = model.get("_grid");
  const { limits } = model.get("_scene");
  const strips = points.map(() => ({}));
  let at = 0;
  let exact = true;
  (async () => {  // all of them, so that no picture is waited for later
    for (const [i, point] of points.entries()) {
      for (const [row, address] of Object.entries(point.strips)) {
        const small = point.latents[row];
        try {
          const latents = small && { strip: await decoded(small.strip), size: small.size };
          strips[i][row] = { strip: await decoded(address), latents, errors: point.errors[row], note: point.notes[row] };
        }
        catch (error) { strips[i][row] = { failed: error.message }; }
      }
      if (i === at || i === points.length - 1) changed();
    }
  })();
  const describe = (profile) => (profile.every((p) => p[0] === profile[0][0] && p[1] === profile[0][1])
    ? CHANNELS.map((c, k) => c.say(profile[0][k])).join(", ") : "as logged");
  return {
    move(actions) {
      at = nearest(points.map((p) => p.actions), actions, limits);
      exact = same(points[at].actions, actions);
    },
    look: (row) => (points[at].failed[row] ? { failed: points[at].failed[row] } : strips[at][row]),
    shown: () => points[at].actions,
    say() {
      const which = `${points[at].name ? `“${points[at].name}”, ` : ""}${describe(points[at].actions)}`;
      const wanting = model.get("view") === "latents" && !Object.keys(points[at].latents).length ? " Latents were kept for the named actions only." : "";
      return (exact ? `Computed beforehand for these very actions (${which}).`
        : `Of ${points.length} futures computed beforehand, the nearest to your actions is shown: ${which} (dashed).`) + wanting;
    },
    working: () => null, again() {}, close() {},
  };
}

/** Futures that the kernel computes: a preview at once, the rest when the hand rests. */
function fromKernel(model, changed, onSilence) {
  const cache = new Map();
  const channel = kernel(model, onSilence);
  let actions = [];
  let busy = null;
  let resting = true;
  let timer = 0;
  const scene = () => model.get("_scene");
  const order = () => scene().rows.filter((r) => r !== "truth").concat(scene().rows.filter((r) => r === "truth"));
  const settings = (row, preview) => Object.fromEntries((scene().accepts[row] ?? []).map((name) => [
    name, name === "steps" && preview ? Math.min(model.get("preview_steps"), model.get("steps")) : model.get(name),
  ]));
  const question = (row, preview) => ({ row, actions, ...settings(row, preview) });
  const key = (asked) => JSON.stringify([scene().version, asked]);
  const known = (row, preview) => cache.get(key(question(row, preview)));
  const remember = (name, entry) => {
    cache.set(name, entry);
    if (cache.size > KEPT) cache.delete(cache.keys().next().value);
  };
  /** The most urgent thing that is not known yet. */
  function urgent() {
    const quick = resting ? order() : order().filter((r) => r !== "truth");  // a world takes longer to draw than a model's preview
    for (const row of quick) if (!known(row, false) && !known(row, true)) return { kind: "rollout", ...question(row, true) };
    if (!resting) return null;
    for (const row of order()) if (!known(row, false)) return { kind: "rollout", ...question(row, false) };
    if (!known("truth", false)?.strip) return null;
    const row = order().find((r) => r !== "truth" && known(r, false).strip && known(r, false).errors === undefined);
    return row ? { kind: "errors", ...question(row, false) } : null;
  }
  async function next() {
    const job = busy ? null : urgent();
    if (!job) return;
    const { kind, ...asked } = job;
    const name = key(asked);
    busy = job;
    changed();
    try {
      const { message, buffers } = await channel.ask(job);
      if (kind === "errors") Object.assign(cache.get(name) ?? {}, { errors: message.errors });
      else {
        const latents = message.latents && { strip: await decodedBytes(buffers[1], "image/png"), size: message.latents };
        remember(name, { strip: await decodedBytes(buffers[0], message.mime), latents, note: message.note });
      }
    } catch (error) {
      if (kind === "errors") Object.assign(cache.get(name) ?? {}, { errors: null });
      else if (error.message !== GIVEN_UP) remember(name, { failed: error.message });
    }
    if (busy === job) busy = null;
    changed();
    next();
  }
  return {
    move(wanted) {
      actions = wanted.map((p) => p.map((v) => Math.round(v * 1e4) / 1e4));
      resting = false;
      clearTimeout(timer);
      timer = setTimeout(() => { resting = true; next(); }, REST_MS);
      next();
    },
    look(row) {
      const full = known(row, false);
      const preview = full ?? known(row, true);
      return preview && { ...preview, preview: full ? 0 : settings(row, true).steps };
    },
    shown: () => actions,
    say: () => "",
    working: () => busy,
    again() {
      for (const [name, entry] of cache) if (entry.failed) cache.delete(name);
      busy = null;
      channel.forget();
      next();
    },
    close() { clearTimeout(timer); channel.close(); },
  };
}

function render({ model, el: host }) {
  const root = holder(host, "wrp-scrubber", "Action scrubber");
  const grid = model.get("_grid");
  const state = el("p", { className: "wrp-state" });
  state.setAttribute("role", "status");
  if (grid && !grid.length) {
    state.textContent = "No futures were kept in this page (offline_kb=0): open the notebook and run it to turn the wheel.";
    root.append(el("img", { src: model.get("_present"), alt: "the present frame" }), state);
    root.dataset.state = "silent";
    return () => root.remove();
  }
  let actions = model.get("actions").map((p) => [...p]);
  let silent = false;
  let wanted = 0;
  let cells = [];
  let latent = false;  // whether any were seen
  const scene = () => model.get("_scene");
  const later = () => { wanted ||= requestAnimationFrame(() => { wanted = 0; paint(); }); };
  const source = grid ? fromPage(model, later) : fromKernel(model, later, (is) => { silent = is; later(); });

  const head = el("div", { className: "wrp-head" });
  const chosen = el("div", { className: "wrp-presets" });
  chosen.setAttribute("role", "group");
  chosen.setAttribute("aria-label", "actions");
  const view = el("select", {}, ...Object.entries(VIEWS).map(([value, textContent]) => el("option", { value, textContent })));
  view.setAttribute("aria-label", "view");
  const stage = el("div", { className: "wrp-stage" });
  const player = transport(model, () => scene().times_s, { loop: true });
  const editors = CHANNELS.map((channel, c) => {
    const limit = () => scene().limits[channel.name];
    const held = el("input", { type: "range", className: "wrp-held", dir: c === 0 ? "rtl" : "ltr" });  // the wheel turns left to the left
    held.setAttribute("aria-label", `${channel.label}, held all the time`);
    const value = el("output");
    held.oninput = () => { actions = actions.map((p) => p.map((v, i) => (i === c ? Number(held.value) : v))); moved(); };
    held.onchange = () => done();
    const plot = chart(channel, c, {
      actions: () => actions, shown: () => source.shown(), frame: player.frame, limit, trained: () => scene().trained[channel.name], times: () => scene().times_s,
      set(k, i, v) { actions = actions.map((p, j) => (j === k ? p.map((old, q) => (q === i ? v : old)) : p)); moved(); },
      done,
    });
    const node = el("div", { className: "wrp-editor" }, el("p", {}, `${channel.label} `, value), held, plot.node);
    return { node, draw() {
      Object.assign(held, { min: -limit(), max: limit(), step: limit() / 100 });
      const mean = actions.reduce((sum, p) => sum + p[c], 0) / actions.length;
      const even = actions.every((p) => Math.abs(p[c] - actions[0][c]) < 1e-6);
      const [low, high] = scene().trained[channel.name] ?? [-Infinity, Infinity];
      const outside = actions.some((p) => p[c] < low - 1e-6 || p[c] > high + 1e-6);
      held.value = mean;
      held.setAttribute("aria-valuetext", `${even ? "" : "drawn, on average "}${channel.say(mean)}`);
      value.textContent = `${even ? channel.say(actions[0][c]) : "as drawn"}${outside ? " · outside the trained range" : ""}`;
      value.classList.toggle("wrp-outside", outside);
      plot.draw();
    } };
  });
  const settings = el("div", { className: "wrp-settings" });
  const keyed = Object.entries(SETTINGS).map(([name, { label, ...bounds }]) => {
    const input = el("input", { type: "number", ...bounds });
    input.onchange = () => {
      const given = Number(input.value);
      if (input.value === "" || !(given >= bounds.min) || (name !== "guidance" && !Number.isInteger(given))) { input.value = model.get(name); return; }
      model.set(name, given);
      model.save_changes();
    };
    return { name, input, node: el("label", {}, `${label} `, input) };
  });
  root.append(head, stage, state, player.node, el("div", { className: "wrp-editors" }, ...editors.map((e) => e.node)), settings);

  function build() {
    const now = scene();
    const [width, height] = now.size;
    cells = now.rows.map((row) => {
      const { color, label } = styleOf(model, row);
      const made = picture(label, row === "truth" && color === "currentColor" ? "#8a8a8a" : color, width, height);
      const note = el("p", { className: "wrp-note" });
      made.figure.append(note);
      return { row, label, note, ...made };
    });
    arrange(stage, cells.map((c) => c.figure), width / height);
    chosen.replaceChildren(...now.presets.map(({ name, actions: profile }) => {
      const button = el("button", { type: "button", textContent: name, onclick: () => { actions = profile.map((p) => [...p]); moved(); done(); } });
      button.profile = profile;
      return button;
    }));
    const models = now.rows.filter((r) => r !== "truth");
    head.replaceChildren(chosen, view);
    settings.replaceChildren(...keyed.filter((k) => !grid && models.some((r) => now.accepts[r]?.includes(k.name))).map((k) => k.node));
  }

  function paint() {
    const i = player.frame();
    const now = scene();
    const [width, height] = now.size;
    player.draw();
    editors.forEach((e) => e.draw());
    keyed.forEach(({ name, input }) => { if (document.activeElement !== input) input.value = model.get(name); });
    for (const button of chosen.children) button.setAttribute("aria-pressed", String(same(button.profile, actions)));
    view.value = model.get("view");
    const found = Object.fromEntries(cells.map((c) => [c.row, source.look(c.row)]));
    const truth = found.truth?.strip;
    const comparable = now.rows.includes("truth") && cells.length > 1;
    latent ||= Object.values(found).some((entry) => entry?.latents);
    for (const option of view.options) option.hidden = option.value === "latents" ? !latent : option.value !== "picture" && !comparable;
    view.hidden = [...view.options].every((option) => option.hidden || option.value === "picture");
    let failed = 0;
    let open = 0;
    for (const cell of cells) {
      const { row, label, canvas, value, note } = cell;
      const entry = found[row];
      if (entry?.failed) failed += 1;
      else if (!entry?.strip) open += 1;
      const error = entry?.errors?.[i];
      value.textContent = entry?.failed ? "failed" : !entry?.strip ? "computing…" : entry.preview ? `preview, ${entry.preview} steps`
        : row === "truth" || error === null || error === undefined || i === 0 ? "" : `RMSE ↓ ${number(error)}`;
      note.textContent = entry?.failed ?? entry?.note ?? "";
      canvas.classList.toggle("wrp-stale", !entry?.strip);
      canvas.setAttribute("aria-label", [label, clock(now.times_s[i]), value.textContent, note.textContent].filter(Boolean).join(", "));
      if (!entry?.strip) { if (entry) delete canvas.dataset.actions; continue; }
      const context = fitted(canvas, width, height);
      cut(context, entry.strip, i, width, height);
      const against = truth && row !== "truth" && ["difference", "onion skin"].includes(model.get("view"));
      const differs = against && model.get("view") === "difference";
      canvas.classList.toggle("wrp-difference", Boolean(differs));
      if (differs) context.globalCompositeOperation = "difference";
      else if (against) context.globalAlpha = 0.5;
      if (against) cut(context, truth, i, width, height);
      if (model.get("view") !== "latents" || !entry.latents) {
        cell.below?.remove();
        cell.below = null;
      } else {
        const { strip, size } = entry.latents;
        const below = cell.below ??= note.parentNode.insertBefore(el("canvas", { className: "wrp-latents" }), note);
        below.setAttribute("role", "img");
        below.style.aspectRatio = `${size[0]} / ${size[1]}`;
        below.setAttribute("aria-label", `${label}, main components of the latents as colours, ${clock(now.times_s[i])}`);
        const small = fitted(below, ...size);
        small.imageSmoothingEnabled = false;
        cut(small, strip, i, ...size);
      }
      canvas.dataset.actions = JSON.stringify(source.shown());
      canvas.dataset.preview = entry.preview || "";
    }
    root.dataset.frame = String(i);
    root.dataset.state = silent ? "silent" : open ? "busy" : failed ? "error" : "ready";
    const again = () => el("button", { type: "button", textContent: "Try again", onclick: () => { silent = false; source.again(); later(); } });
    if (silent) say("No answer from the kernel: it is busy with another cell, or gone (then run the cell again). ", again);
    else if (failed && !open) say(`${failed === cells.length ? "Nothing" : "Not everything"} could be computed for these actions. `, grid ? null : again);
    else say(open && grid ? "Loading…" : source.say());
  }
  let said = null;
  function say(text, button) {
    if (text === said) return;
    said = text;
    state.replaceChildren(text, ...(button ? [button()] : []));
  }

  /** The hand moves: look at once, tell Python when it is done. */
  function moved() { source.move(actions); later(); }
  function done() { model.set("actions", actions.map((p) => [...p])); model.save_changes(); }
  view.onchange = () => { model.set("view", view.value); model.save_changes(); };
  onKeys(root, player.keys, (target, key) => target === view || target.type === "number" || (key === " " ? target.tagName === "BUTTON" && target.className !== "wrp-play" : target.className === "wrp-held"));
  stage.addEventListener("pointerdown", () => root.focus({ preventScroll: true }));

  const sized = new ResizeObserver(later);
  sized.observe(stage);
  const onActions = () => {
    const now = model.get("actions");
    if (now.length === actions.length && same(now, actions)) return;
    actions = now.map((p) => [...p]);
    moved();
  };
  const onScene = () => { actions = model.get("actions").map((p) => [...p]); said = null; build(); moved(); };
  const listeners = { frame: later, view: later, actions: onActions, _scene: onScene, styles: onScene, seed: moved, steps: moved, preview_steps: moved, guidance: moved };
  for (const [name, f] of Object.entries(listeners)) model.on(`change:${name}`, f);
  build();
  moved();
  return () => {
    player.close();
    sized.disconnect();
    cancelAnimationFrame(wanted);
    source.close();
    for (const [name, f] of Object.entries(listeners)) model.off(`change:${name}`, f);
  };
}

export default { render };
