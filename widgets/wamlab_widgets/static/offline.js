// Mounts widgets where there is no kernel: in a page, or in a notebook that was reopened without running.
globalThis.wamlab ??= (() => {
  const modules = {};
  const standIn = (state) => {
    const listeners = {};
    return {
      get: (key) => state[key],
      set(key, value) {
        if (state[key] === value) return;
        state[key] = value;
        for (const f of listeners[`change:${key}`] ?? []) f();
      },
      on(event, f) { (listeners[event] ??= []).push(f); },
      off(event, f) { listeners[event] = (listeners[event] ?? []).filter((g) => g !== f); },
      save_changes() {},
      send() {},
    };
  };
  return {
    register(name, source) {
      modules[name] ??= import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    },
    mount() {
      for (const place of document.querySelectorAll(".wamlab-static:not([data-mounted])")) {
        place.dataset.mounted = "";
        const state = JSON.parse(place.querySelector("script").textContent);
        const el = place.appendChild(document.createElement("div"));
        modules[place.dataset.widget]
          .then((module) => module.default.render({ model: standIn(state), el }))
          .catch((error) => { el.textContent = `This widget could not be drawn: ${error.message}`; });
      }
    },
  };
})();
