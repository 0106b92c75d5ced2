// Drive inside a model. Live, one step is asked of the kernel at a time, with the action of that moment; a page plays recorded drives.

const FULL = 2000;
const TURN_S = 0.5;  // from straight on to the trained angle, with a key held down
const DOES = { ArrowLeft: "left", a: "left", ArrowRight: "right", d: "right", ArrowUp: "faster", w: "faster", ArrowDown: "slower", s: "slower" };

/** Bird's-eye path: x forward is up at the start. Returns {node, draw(paths, i)}. */
function birdsEye() {
  const node = svg("svg", { class: "wrp-map", role: "img", "aria-label": "bird's-eye path" });
  const SIDE = 200;
  node.setAttribute("viewBox", `0 0 ${SIDE} ${SIDE}`);
  return {
    node,
    draw(paths, i) {
      const known = paths.flatMap((p) => p.poses.filter(Boolean));
      if (!known.length) { node.replaceChildren(); return; }
      const [x0, y0, yaw] = known[0];
      const turned = ([x, y]) => [-(-(x - x0) * Math.sin(yaw) + (y - y0) * Math.cos(yaw)), -((x - x0) * Math.cos(yaw) + (y - y0) * Math.sin(yaw))];
      const points = known.map(turned);
      const low = [0, 1].map((k) => Math.min(...points.map((p) => p[k])));
      const high = [0, 1].map((k) => Math.max(...points.map((p) => p[k])));
      const span = Math.max(20, high[0] - low[0], high[1] - low[1]) * 1.15;
      const at = (pose) => turned(pose).map((v, k) => SIDE / 2 + ((v - (low[k] + high[k]) / 2) / span) * SIDE);
      const bar = 10 ** Math.floor(Math.log10(span / 3));
      const length = (bar / span) * SIDE;
      node.replaceChildren(
        svg("path", { class: "wrp-scale", d: `M10 ${SIDE - 10}h${length.toFixed(1)}` }),
        Object.assign(svg("text", { x: 10, y: SIDE - 15 }), { textContent: `${bar} m` }),
      );
      for (const { poses, color } of paths) {
        const seen = poses.slice(0, i + 1).filter(Boolean);
        if (!seen.length) continue;
        const line = seen.map((p) => at(p).map((v) => v.toFixed(1)).join(" ")).join("L");
        const whole = poses.filter(Boolean).map((p) => at(p).map((v) => v.toFixed(1)).join(" ")).join("L");
        const [x, y] = at(seen.at(-1));
        const heading = ((yaw - seen.at(-1)[2]) * 180) / Math.PI;
        node.append(
          svg("path", { class: "wrp-line wrp-ahead", stroke: color, d: `M${whole}` }),
          svg("path", { class: "wrp-line wrp-driven", stroke: color, d: `M${line}` }),
          svg("path", { fill: color, d: "M0 -7L4.5 5L0 2.5L-4.5 5Z", transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) rotate(${heading.toFixed(1)})` }),
        );
      }
    },
  };
}

/** What was seen, row by row: pictures and measures, whether they come from the page or, one by one, from the kernel. */
const emptyRow = () => ({ pictures: [], pose: [], speed: [], error: [], note: [], failed: "" });

/** A recorded drive of the page as rows. */
async function recorded(drive) {
  const rows = {};
  for (const [row, address] of Object.entries(drive.strips)) rows[row] = { ...drive.rows[row], strip: await decoded(address) };
  return rows;
}

/** What hands do: keys, sliders or a gamepad -> the action of this moment. */
function controls(limits, trained, changed) {
  const action = [0, 0];
  const held = new Set();
  let keyed = false;
  const strong = [Math.min(limits.steering_rad, Math.max(...(trained.steering_rad ?? [limits.steering_rad]).map(Math.abs))),
    ...(trained.accel_mps2 ? [Math.max(0, trained.accel_mps2[1]), Math.min(0, trained.accel_mps2[0])] : [limits.accel_mps2 / 2, -limits.accel_mps2])];
  const pad = () => [...(navigator.getGamepads?.() ?? [])].find((p) => p?.connected && p.axes.length);
  return {
    action,
    set(c, v) { action[c] = v; keyed = false; changed(); },
    press(what, down) { if (down) { held.add(what); keyed = true; } else held.delete(what); },
    release() { held.clear(); },
    /** Let `seconds` pass with what is held. */
    advance(seconds) {
      const stick = pad();
      if (stick && (Math.abs(stick.axes[0]) > 0.08 || stick.buttons[6]?.value > 0.05 || stick.buttons[7]?.value > 0.05)) {
        keyed = true;
        action[0] = -stick.axes[0] * strong[0];
        action[1] = (stick.buttons[7]?.value ?? 0) * strong[1] + (stick.buttons[6]?.value ?? 0) * strong[2];
      } else if (keyed) {
        const to = (Number(held.has("left")) - Number(held.has("right"))) * strong[0];
        const most = (strong[0] / TURN_S) * seconds;
        action[0] += Math.max(-most, Math.min(most, to - action[0]));
        action[1] = held.has("slower") ? strong[2] : held.has("faster") ? strong[1] : 0;
      }
      changed();
    },
  };
}

function render({ model, el: host }) {
  const root = holder(host, "wrp-drive", "Drive view: space drives, arrows steer", 0);
  const drives = model.get("_drives");
  const scene = model.get("_scene");
  const [width, height] = scene.size;
  const state = el("p", { className: "wrp-state" });
  state.setAttribute("role", "status");
  if (drives && !drives.length) {
    state.textContent = "No recorded drives are in this page: open the notebook and run it to drive.";
    root.append(state);
    root.dataset.state = "silent";
    return () => root.remove();
  }

  let rows = Object.fromEntries(scene.rows.map((r) => [r, emptyRow()]));
  let actions = [];
  let driving = false;
  let waiting = false;
  let trouble = "";
  let silent = false;
  let wanted = 0;
  let timer = 0;
  let pace = [];
  let turn = 0;
  const later = () => { wanted ||= requestAnimationFrame(() => { wanted = 0; paint(); }); };
  const channel = drives ? null : kernel(model, (is) => { silent = is; later(); });
  const times = () => Array.from({ length: actions.length + 1 }, (_, k) => k * scene.step_s);
  const player = transport(model, times);
  const hands = controls(scene.limits, scene.trained, later);

  const button = (text, onclick) => el("button", { type: "button", textContent: text, onclick });
  const go = button("Drive", () => (driving ? halt() : drive()));
  const fresh = button("Start over", () => start());
  const again = button("Drive it again", () => repeat());
  const choice = el("select", {}, ...(drives ?? []).map((d, i) => el("option", { value: String(i), textContent: d.name })));
  choice.setAttribute("aria-label", "recorded drive");
  const difference = el("input", { type: "checkbox" });
  const differ = el("label", { className: "wrp-check" }, difference, "difference from truth");
  const head = el("div", { className: "wrp-head" }, ...(drives ? (drives.length > 1 ? [el("label", {}, "drive ", choice)] : []) : [el("div", { className: "wrp-presets" }, go, fresh, again)]));
  if (scene.rows.includes("truth") && scene.rows.length > 1) head.append(differ);
  const stage = el("div", { className: "wrp-stage" });
  const map = birdsEye();
  const speed = el("span", { className: "wrp-value" });
  const cells = scene.rows.map((row) => {
    const style = styleOf(model, row);
    const color = row === "truth" && style.color === "currentColor" ? "#8a8a8a" : style.color;
    const made = picture(style.label, color, width, height);
    const trace = el("div", { className: "wrp-trace" });
    const note = el("p", { className: "wrp-note" });
    made.figure.append(trace, note);
    return { row, label: style.label, color, trace, note, ...made };
  });
  const above = el("figure", {}, el("figcaption", {}, el("span", { className: "wrp-name", textContent: "path from above" }), speed), map.node);
  arrange(stage, [...cells.map((c) => c.figure), above], width / height);
  const sliders = [["steering wheel", "steering_rad", "rtl"], ["acceleration", "accel_mps2", "ltr"]].map(([label, name, dir], c) => {
    const limit = scene.limits[name];
    const input = el("input", { type: "range", className: "wrp-held", min: -limit, max: limit, step: limit / 100, value: 0, dir });
    input.setAttribute("aria-label", label);
    input.oninput = () => hands.set(c, Number(input.value));
    const value = el("output");
    const say = (v) => (c ? `${number(Math.abs(v) < 0.005 ? 0 : v, true)} m/s²` : Math.abs(v) < 0.005 ? "straight" : `${number(Math.abs(v))} rad ${v > 0 ? "left" : "right"}`);
    const [low, high] = scene.trained[name] ?? [-Infinity, Infinity];
    return { node: el("div", { className: "wrp-editor" }, el("p", {}, `${label} `, value), input), draw(v) {
      const outside = v < low - 1e-6 || v > high + 1e-6;
      input.value = v;
      input.disabled = Boolean(drives);
      input.setAttribute("aria-valuetext", say(v));
      value.textContent = `${say(v)}${outside ? " · outside the trained range" : ""}`;
      value.classList.toggle("wrp-outside", outside);
    } };
  });
  root.append(head, stage, state, player.node, el("div", { className: "wrp-editors" }, ...sliders.map((s) => s.node)));

  async function ask(question) {
    const mine = turn;
    waiting = true;
    try {
      const { message, buffers } = await channel.ask(question);
      const images = await Promise.all(buffers.map((b) => decodedBytes(b, message.mime)));
      if (mine !== turn) return false;
      Object.entries(message.rows).forEach(([row, now], k) => {
        const seen = rows[row];
        seen.failed = now.failed;
        if (now.failed) return;
        seen.pictures.push(images[k]);
        for (const name of ["pose", "speed", "error", "note"]) seen[name].push(now[name]);
      });
      if (question.kind === "step") actions.push(question.action);
      trouble = "";
      model.set("frame", actions.length);
      return true;
    } catch (error) {
      if (mine === turn) { trouble = error.message; halt(); }
      return false;
    } finally {
      if (mine === turn) waiting = false;
      later();
    }
  }
  async function start() {
    halt();
    turn += 1;
    channel.forget();
    rows = Object.fromEntries(scene.rows.map((r) => [r, emptyRow()]));
    actions = [];
    pace = [];
    return ask({ kind: "start" });
  }
  const over = () => scene.rows.every((r) => rows[r].failed) || actions.length >= FULL;
  async function tick() {
    timer = 0;
    if (!driving) return;
    const began = performance.now();
    const least = 1000 / Math.max(0.1, model.get("fps"));
    hands.advance(least / 1000);
    if (!(await ask({ kind: "step", action: hands.action.map((v) => Math.round(v * 1e4) / 1e4) }))) return;
    pace = [...pace.slice(-19), performance.now()];
    if (over()) { halt(); return; }
    if (driving) timer = setTimeout(tick, Math.max(0, least - (performance.now() - began)));
  }
  function drive() {
    player.stop();
    if (driving || waiting || over()) return;
    driving = true;
    pace = [];
    later();
    tick();
  }
  function halt() {
    driving = false;
    clearTimeout(timer);
    hands.release();
    later();
  }
  async function repeat() {
    const then = actions;
    if (!then.length || !(await start())) return;
    const mine = turn;
    for (const action of then) if (mine !== turn || !(await ask({ kind: "step", action }))) return;
  }
  async function load(i) {
    const mine = ++turn;
    root.dataset.state = "busy";
    player.stop();
    try {
      const found = await recorded(drives[i]);
      if (mine !== turn) return;
      ({ actions } = drives[i]);
      rows = found;
      model.set("frame", 0);
    } catch (error) { trouble = error.message; }
    later();
  }

  function paint() {
    const i = player.frame();
    player.draw();
    const truth = rows.truth;
    let failed = 0;
    for (const { row, label, color, canvas, value, trace, note } of cells) {
      const seen = rows[row];
      const moments = seen.pose.length;
      const at = Math.min(i, moments - 1);
      if (seen.failed) failed += 1;
      const error = seen.error[i];
      value.textContent = i < moments ? (row === "truth" || error === null || error === undefined ? "" : `RMSE ↓ ${number(error)}`) : moments ? "ended" : "";
      note.textContent = i >= moments && seen.failed ? seen.failed : seen.note[at] ?? "";
      canvas.setAttribute("aria-label", [label, clock(times()[i]), value.textContent, note.textContent].filter(Boolean).join(", "));
      canvas.classList.toggle("wrp-stale", moments > 0 && i >= moments);
      const errors = seen.error.map((v) => v ?? null);
      if (finite(errors).length > 1) {
        const most = Math.max(...cells.flatMap((c) => finite(rows[c.row].error)), 1);
        const spark = sparkline([...errors, ...Array(Math.max(0, actions.length + 1 - errors.length)).fill(null)], { low: 0, high: most, color });
        spark.at(i);
        trace.replaceChildren(spark.node);
      } else trace.replaceChildren();
      if (at < 0) continue;
      const context = fitted(canvas, width, height);
      const draw = (from, k) => (from.strip ? cut(context, from.strip, k, width, height) : context.drawImage(from.pictures[k], 0, 0, canvas.width, canvas.height));
      draw(seen, at);
      const against = difference.checked && row !== "truth" && truth?.pose.length > at;
      canvas.classList.toggle("wrp-difference", Boolean(against));
      if (against) { context.globalCompositeOperation = "difference"; draw(truth, at); }
    }
    map.draw(cells.map((c) => ({ poses: rows[c.row].pose, color: c.color })).reverse(), i);
    const mps = finite(cells.map((c) => rows[c.row].speed[Math.min(i, rows[c.row].speed.length - 1)]))[0];
    speed.textContent = mps === undefined ? "" : `${number(mps * 3.6)} km/h`;
    map.node.setAttribute("aria-label", `bird's-eye path${mps === undefined ? "" : `, ${number(mps)} m/s`}`);
    const action = driving || (!drives && i >= actions.length) ? hands.action : actions[i] ?? actions.at(-1) ?? [0, 0];
    sliders.forEach((s, c) => s.draw(action[c]));
    go.textContent = driving ? "Stop" : "Drive";
    go.disabled = over();
    again.disabled = !actions.length || driving;
    const loading = drives && !cells.some((c) => rows[c.row].strip) && !trouble;
    root.dataset.frame = String(i);
    root.dataset.steps = String(actions.length);
    root.dataset.state = silent ? "silent" : trouble || (failed && failed === cells.length) ? "error" : driving || loading || (waiting && !actions.length) ? "busy" : "ready";
    const rate = pace.length > 1 ? (1000 * (pace.length - 1)) / (pace.at(-1) - pace[0]) : 0;
    root.dataset.rate = rate.toFixed(1);
    const left = model.get("_left") ?? [];
    say(silent ? "No answer from the kernel: it is busy with another cell, or gone (then run the cell again)."
      : trouble ? `The drive stopped: ${trouble}`
        : actions.length >= FULL ? `The recording is full after ${FULL} steps; start over to go on.`
          : driving ? `Driving: ${rate ? `${number(rate)} frames/s, ` : ""}the arrows steer, accelerate and brake; space stops.`
            : drives ? `A recorded drive; the arrows step through it.${left.length ? ` Left out for want of room: ${left.join(", ")}.` : ""}`
              : over() ? "Every world has ended; start over to drive again." : "Space or “Drive” to start; stopped, the arrows step through what was driven.");
  }
  function say(text) { if (state.textContent !== text) state.textContent = text; }

  const own = (target) => target === choice || (target.type === "range" && target.className === "wrp-held");
  const still = (f) => () => { if (!driving) f(); };
  const keys = drives ? player.keys : {
    ...Object.fromEntries(["ArrowLeft", "ArrowRight", "Home", "End"].map((k) => [k, still(player.keys[k])])), Escape: halt, " ": () => (driving ? halt() : drive()),
  };
  root.addEventListener("keydown", (event) => {
    const what = DOES[event.key];
    if (!driving || !what || event.ctrlKey || event.metaKey || event.altKey || own(event.target)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    hands.press(what, true);
  });
  root.addEventListener("keyup", (event) => { if (DOES[event.key]) hands.press(DOES[event.key], false); });
  root.addEventListener("focusout", (event) => { if (!root.contains(event.relatedTarget)) hands.release(); });
  onKeys(root, keys, (target, key) => own(target) || (key === " " && (target === difference || (target.tagName === "BUTTON" && target !== go))));
  stage.addEventListener("pointerdown", () => root.focus({ preventScroll: true }));
  difference.onchange = later;
  choice.onchange = () => load(Number(choice.value));
  const sized = new ResizeObserver(later);
  sized.observe(stage);
  model.on("change:frame", later);
  if (drives) load(0); else start();
  return () => {
    halt();
    turn += 1;
    player.close();
    sized.disconnect();
    cancelAnimationFrame(wanted);
    channel?.close();
    model.off("change:frame", later);
  };
}

export default { render };
