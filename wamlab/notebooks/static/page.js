// Theme switch, the index's filters, and plotly figures drawn from the packed library. No imports: the page holds everything.
(() => {
  const root = document.documentElement;
  const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = () => root.dataset.theme || (dark() ? "dark" : "light");
  const button = document.getElementById("theme");
  const label = () => { button.textContent = theme() === "dark" ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("wamlab-theme", root.dataset.theme); } catch { /* private window: not remembered */ }
    changed();
  });

  const plots = [...document.querySelectorAll("[data-plot]")];
  const colours = (name) => name === "dark"
    ? { ink: "#d9d8d4", grid: "rgba(255,255,255,.11)", line: "rgba(255,255,255,.35)" }
    : { ink: "#33363b", grid: "rgba(0,0,0,.08)", line: "rgba(0,0,0,.35)" };
  const template = (figure, name) => {
    const { ink, grid, line } = colours(name);
    const made = structuredClone(figure.layout.template || {});
    const layout = made.layout ||= {};
    layout.font = { ...layout.font, color: ink };
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = { ...layout[axis], gridcolor: grid, linecolor: line, zerolinecolor: line, tickcolor: line };
    }
    layout.margin = { ...layout.margin, t: 36 }; // the title stands above the figure, as text
    return made;
  };
  // Panels stand below each other where there is no room beside each other; those of a grid with notes in places of their own stay.
  const stack = (box, layout) => {
    const axes = Object.keys(layout).filter((k) => /^xaxis\d*$/.test(k));
    const domains = axes.map((x) => layout[x.replace("x", "y")]?.domain);
    const n = axes.length, rows = new Set(domains.map(String)).size;
    if (box.clientWidth > 600 || n < 2 || rows === n || !domains.every(Boolean) || (rows > 1 && layout.annotations?.length)) return layout;
    box.style.height = `${box.clientHeight * (0.55 + ((rows > 1 ? 0.6 : 0.45) * n) / rows)}px`;
    const out = { ...layout }, gap = rows > 1 ? 0.3 : 0.18;
    axes.forEach((x, i) => {
      const y = x.replace("x", "y");
      out[x] = { ...layout[x], domain: [0, 1] };
      out[y] = { ...layout[y], domain: [1 - (i + 1) / n + (i + 1 < n ? gap / n : 0), 1 - i / n - (i ? 0.08 / n : 0)] };
    });
    return out;
  };

  async function library() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    globalThis.PlotlyConfig = { MathJaxConfig: "local" };
    document.head.append(script);
    return globalThis.Plotly;
  }

  const figures = new Map();
  async function draw() {
    try {
      const Plotly = await library();
      for (const box of plots) {
        const figure = JSON.parse(document.getElementById(`plot-${box.dataset.plot}`).textContent);
        figure.layout = { ...stack(box, figure.layout), template: template(figure, theme()), autosize: true };
        delete figure.layout.width;
        figures.set(box, figure);
        box.replaceChildren();
        await Plotly.newPlot(box, figure.data, figure.layout, {
          responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
        });
      }
    } catch (error) {
      for (const box of plots) {
        box.innerHTML = '<p class="empty"></p>';
        box.firstChild.textContent = `This figure could not be drawn: ${error.message}. A current browser is needed.`;
      }
    }
  }
  const recolour = (name) => figures.forEach((figure, box) => {
    globalThis.Plotly.relayout(box, { template: template(figure, name) });
  });
  function changed() { label(); recolour(theme()); }

  // The index: show what fits every filter that is set.
  const form = document.getElementById("filters");
  form?.addEventListener("change", () => {
    const wanted = [...new FormData(form)].filter(([, value]) => value);
    let shown = 0;
    for (const item of document.querySelectorAll("[data-notebook]")) {
      item.hidden = !wanted.every(([name, value]) => (item.dataset[name] || "").split("|").includes(value));
      shown += !item.hidden;
    }
    document.getElementById("nothing").hidden = shown > 0;
  });

  // The reference: show the names that have every word, in themselves or in what is said of them.
  const find = document.getElementById("find");
  find?.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const module of document.querySelectorAll(".module")) {
      let any = false;
      for (const entry of module.querySelectorAll(":scope > article")) {
        const text = `${entry.id} ${entry.textContent}`.toLowerCase();
        entry.hidden = !words.every((word) => text.includes(word));
        any ||= !entry.hidden;
        shown += !entry.hidden;
      }
      module.hidden = words.length > 0 && !any;
    }
    document.getElementById("found").textContent = words.length ? `${shown} name${shown === 1 ? "" : "s"}` : "";
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  addEventListener("beforeprint", () => recolour("light"));
  addEventListener("afterprint", () => recolour(theme()));
  label();
  if (plots.length) draw();
})();
