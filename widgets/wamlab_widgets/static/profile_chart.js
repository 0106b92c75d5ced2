// An action profile as charts to be drawn in, one for each channel.

const CHANNELS = [
  { name: "steering_rad", label: "steering wheel", say: (v) => (Math.abs(v) < 0.005 ? "straight" : `${number(Math.abs(v))} rad ${v > 0 ? "left" : "right"}`) },
  { name: "accel_mps2", label: "acceleration", say: (v) => `${number(Math.abs(v) < 0.005 ? 0 : v, true)} m/s²` },
];
const same = (a, b) => a.every((p, k) => Math.abs(p[0] - b[k][0]) < 1e-3 && Math.abs(p[1] - b[k][1]) < 1e-3);

/** The chart of one channel: drag a point, or draw across. `set(k, value)` is called for each step that changes. */
function chart(channel, c, { actions, shown, frame, limit, trained, times, set, done }) {
  const HEIGHT = 92;
  const node = svg("svg", { class: "wrp-chart", role: "group", "aria-label": `${channel.label}, step by step` });
  const back = svg("g", {});
  const handles = [];
  let width = 300;
  let drawn = null;
  node.append(back);
  const steps = () => times().length - 1;
  const x = (k) => 14 + (k / steps()) * (width - 28);
  const y = (v) => HEIGHT / 2 - (v / limit()) * (HEIGHT / 2 - 8);
  const value = (py) => Math.max(-limit(), Math.min(limit(), ((HEIGHT / 2 - py) / (HEIGHT / 2 - 8)) * limit()));
  const line = (profile, kind) => svg("path", {
    class: kind, d: `M${profile.map((p, k) => `${x(k).toFixed(1)} ${y(p[c]).toFixed(1)}`).join("L")}L${x(steps()).toFixed(1)} ${y(profile.at(-1)[c]).toFixed(1)}`,
  });
  const step = () => limit() / 40;
  const nudge = (k, v) => { set(k, c, Math.max(-limit(), Math.min(limit(), v))); done(); };
  const handle = (k) => {
    const dot = svg("circle", { r: 5 });
    const grip = svg("g", { class: "wrp-handle", role: "slider", tabindex: k ? -1 : 0, "aria-orientation": "vertical" }, svg("circle", { r: 16, class: "wrp-touch" }), dot);
    grip.setAttribute("aria-label", `${channel.label} at ${clock(times()[k])}`);
    grip.addEventListener("keydown", (event) => {
      const v = actions()[k][c];
      const big = event.shiftKey ? 4 : 1;
      const does = {
        ArrowUp: () => nudge(k, v + big * step()), ArrowDown: () => nudge(k, v - big * step()), Delete: () => nudge(k, 0),
        PageUp: () => nudge(k, v + 4 * step()), PageDown: () => nudge(k, v - 4 * step()), Home: () => nudge(k, -limit()), End: () => nudge(k, limit()),
        ArrowRight: () => focus(k + 1), ArrowLeft: () => focus(k - 1),
      }[event.key];
      if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      does();
    });
    return grip;
  };
  function focus(k) {
    const to = Math.max(0, Math.min(handles.length - 1, k));
    handles.forEach((h, i) => h.setAttribute("tabindex", i === to ? 0 : -1));
    handles[to].focus({ preventScroll: true });
  }
  const place = (event) => {
    const box = node.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    const k = Math.max(0, Math.min(steps() - 1, Math.round(((at - 14) / (width - 28)) * steps())));
    return [k, value(((event.clientY - box.top) / box.height) * HEIGHT)];
  };
  node.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    node.setPointerCapture(event.pointerId);
    drawn = place(event);
    focus(drawn[0]);
    set(drawn[0], c, drawn[1]);
  });
  node.addEventListener("pointermove", (event) => {
    if (!drawn) return;
    const [from, was] = drawn;
    drawn = place(event);
    const [to, is] = drawn;
    const way = Math.abs(to - from);
    for (let i = way ? 1 : 0; i <= way; i += 1) set(from + Math.sign(to - from) * i, c, way ? was + ((is - was) * i) / way : is);
  });
  const release = () => { if (drawn) { drawn = null; done(); } };
  node.addEventListener("pointerup", release);
  node.addEventListener("pointercancel", release);
  return {
    node,
    draw() {
      width = Math.max(160, node.clientWidth || width);
      node.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
      while (handles.length < steps()) handles.push(node.appendChild(handle(handles.length)));
      while (handles.length > steps()) handles.pop().remove();
      const [low, high] = trained() ?? [-limit(), limit()];
      const now = x(Math.min(frame(), steps()));
      back.replaceChildren(
        svg("rect", { class: "wrp-trained", x: 0, width, y: y(high), height: Math.max(0, y(low) - y(high)) }),
        svg("line", { class: "wrp-zero", x1: 0, x2: width, y1: y(0), y2: y(0) }),
        svg("line", { class: "wrp-cursor", x1: now, x2: now, y1: 0, y2: HEIGHT }),
        ...(same(shown(), actions()) ? [] : [line(shown(), "wrp-line wrp-snapped")]),
        line(actions(), "wrp-line wrp-asked"),
      );
      handles.forEach((grip, k) => {
        const v = actions()[k][c];
        const outside = v < low - 1e-6 || v > high + 1e-6;
        grip.setAttribute("transform", `translate(${x(k).toFixed(1)} ${y(v).toFixed(1)})`);
        grip.setAttribute("aria-valuemin", -limit());
        grip.setAttribute("aria-valuemax", limit());
        grip.setAttribute("aria-valuenow", v);
        grip.setAttribute("aria-valuetext", channel.say(v) + (outside ? ", outside the trained range" : ""));
        grip.classList.toggle("wrp-outside", outside);
      });
    },
  };
}
