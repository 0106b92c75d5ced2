// A dataset's scenes as cards. Thumbnails are asked of the kernel one by one, for the cards in view; a page holds them.

const ORDERS = { name: "by name", steering: "by steering, most first", braking: "by braking, hardest first", speed: "by speed, fastest first" };
const TRACES = [["steering_rad", "wheel", true], ["accel_mps2", "pedals", true], ["speed_mps", "speed", false]];

/** The scenes that pass, in order. */
function passing(catalog, { search, filters, order }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = catalog.filter((scene) => {
    const text = [scene.name, scene.about, ...Object.values(scene.attributes)].join(" ").toLowerCase();
    return words.every((w) => text.includes(w)) && Object.entries(filters).every(([k, v]) => scene.attributes[k] === v);
  });
  return order === "name" ? found : found.sort((a, b) => b[order] - a[order]);
}

/** Where thumbnails come from: load(name) -> image, or null where the page has none. */
function thumbnails(model) {
  const inPage = model.get("_pictures");
  const cache = new Map();
  const channel = inPage ? null : kernel(model);
  const fetched = async (name) => {
    if (inPage) {
      if (inPage[name]?.startsWith("failed")) throw new Error(inPage[name]);
      return inPage[name] ? decoded(inPage[name]) : null;
    }
    const { message, buffers } = await channel.ask({ kind: "thumbnail", name });
    return decodedBytes(buffers[0], message.mime);
  };
  return {
    load(name) {
      if (!cache.has(name)) cache.set(name, fetched(name));
      return cache.get(name);
    },
    close() { channel?.close(); },
  };
}

function render({ model, el: host }) {
  const root = holder(host, "wrp-browser", "Scene browser");
  const catalog = model.get("_catalog") ?? [];
  const state = el("p", { className: "wrp-state" });
  state.setAttribute("role", "status");
  if (!catalog.length) {
    state.textContent = "No scenes to show: this browser was given an empty list.";
    root.append(state);
    return () => root.remove();
  }
  const source = thumbnails(model);
  const set = (name, value) => { model.set(name, value); model.save_changes(); };
  const search = el("input", { type: "search", placeholder: "search", value: model.get("search") });
  search.setAttribute("aria-label", "search in names, descriptions and attributes");
  search.oninput = () => set("search", search.value);
  const values = {};
  for (const { attributes } of catalog) for (const [k, v] of Object.entries(attributes)) (values[k] ??= new Set()).add(v);
  const telling = (scene) => Object.entries(scene.attributes).filter(([k]) => values[k].size > 1).map(([, v]) => v).join(", ");
  const filters = Object.entries(values).filter(([, known]) => known.size > 1 && known.size <= 24).map(([name, known]) => {
    const select = el("select", {}, el("option", { value: "", textContent: `any ${name}` }), ...[...known].sort().map((v) => el("option", { value: v, textContent: v })));
    select.setAttribute("aria-label", name);
    select.onchange = () => {
      const { [name]: _, ...others } = model.get("filters");
      set("filters", select.value ? { ...others, [name]: select.value } : others);
    };
    return { name, select };
  });
  const order = el("select", {}, ...Object.entries(ORDERS).map(([value, textContent]) => el("option", { value, textContent })));
  order.setAttribute("aria-label", "sorted by");
  order.onchange = () => set("order", order.value);
  const list = el("div", { className: "wrp-cards" });
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "scenes");
  root.append(el("div", { className: "wrp-head" }, search, ...filters.map((f) => f.select), order), state, list);

  const fastest = Math.max(1, ...catalog.map((s) => Math.max(...finite(s.traces.speed_mps), 0)));
  const turned = Math.max(0.1, ...catalog.map((s) => s.steering));
  const bound = { steering_rad: [-turned, turned], accel_mps2: [-5, 5], speed_mps: [0, fastest] };
  const cards = new Map();
  let shown = [];

  const inView = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      inView.unobserve(target);
      const place = target.querySelector(".wrp-thumb");
      source.load(target.dataset.scene).then((image) => {
        if (image) place.replaceChildren(Object.assign(image, { alt: "" }));
        else place.textContent = "not in this page";
      }, (error) => { place.textContent = error.message; });
    }
  }, { rootMargin: "200px" });

  function card(scene) {
    if (!cards.has(scene.name)) {
      const traces = TRACES.map(([name, label, zero]) => {
        const [low, high] = bound[name];
        const spark = sparkline(scene.traces[name], { low, high, color: "currentColor", zero, height: 20 });
        return el("div", {}, label, spark.node);
      });
      const node = el("div", { className: "wrp-card" }, el("div", { className: "wrp-thumb" }), el("b", { textContent: scene.name }),
        el("p", { textContent: [telling(scene), `${scene.seconds} s`].filter(Boolean).join(", ") }), el("div", { className: "wrp-mini" }, ...traces));
      node.dataset.scene = scene.name;
      node.title = scene.about;
      node.setAttribute("role", "option");
      node.setAttribute("aria-label", `${scene.name}: ${scene.about || Object.values(scene.attributes).join(", ")}; on average ${number(scene.speed)} m/s`);
      node.onclick = () => choose(scene.name);
      cards.set(scene.name, node);
      inView.observe(node);
    }
    return cards.get(scene.name);
  }
  const choose = (name) => { set("choice", name); focus(shown.findIndex((s) => s.name === name)); };
  function focus(i) {
    if (!shown.length) return;
    const to = Math.max(0, Math.min(shown.length - 1, i));
    shown.forEach((s, k) => { card(s).tabIndex = k === to ? 0 : -1; });
    card(shown[to]).focus({ preventScroll: false });
  }
  const focused = () => shown.findIndex((s) => card(s) === document.activeElement);
  const columns = () => Math.max(1, getComputedStyle(list).gridTemplateColumns.split(" ").length);

  function paint() {
    const asked = { search: model.get("search"), filters: model.get("filters"), order: model.get("order") };
    shown = passing([...catalog], asked);
    filters.forEach(({ name, select }) => { select.value = asked.filters[name] ?? ""; });
    order.value = asked.order;
    if (document.activeElement !== search) search.value = asked.search;
    list.replaceChildren(...shown.map(card));
    const choice = model.get("choice");
    shown.forEach((s, k) => {
      card(s).setAttribute("aria-selected", String(s.name === choice));
      card(s).tabIndex = (shown.some((o) => o.name === choice) ? s.name === choice : k === 0) ? 0 : -1;
    });
    root.dataset.shown = String(shown.length);
    root.dataset.state = "ready";
    state.textContent = `${shown.length} of ${catalog.length} drives${choice ? `; ${choice} is chosen` : ""}${shown.length ? "" : ": nothing passes, ask for less"}.`;
  }
  const keys = {
    ArrowRight: () => focus(focused() + 1), ArrowLeft: () => focus(focused() - 1), ArrowDown: () => focus(focused() + columns()), ArrowUp: () => focus(focused() - columns()),
    Home: () => focus(0), End: () => focus(shown.length - 1), Enter: () => choose(shown[focused()].name), " ": () => choose(shown[focused()].name),
  };
  onKeys(list, keys, () => focused() < 0);
  const names = ["choice", "search", "filters", "order"];
  const later = () => { const at = focused(); paint(); if (at >= 0) focus(at); };
  for (const name of names) model.on(`change:${name}`, later);
  paint();
  return () => {
    inView.disconnect();
    source.close();
    for (const name of names) model.off(`change:${name}`, later);
  };
}

export default { render };
