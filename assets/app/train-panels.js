// The panels: one plotly figure each, redrawn where curves have grown; a zoom stays.

const plots = new Map(); // panel id -> {box, plot, legend, panel}
let plotly = null;

function withPlotly() {
  plotly ||= window.Plotly ? Promise.resolve(window.Plotly) : new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = PLOTLY;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly did not load"));
    document.head.append(script);
  });
  return plotly;
}

function makePanels(panels, box) {
  const tools = make("div", "train-tools");
  const smooth = make("input");
  smooth.type = "range";
  smooth.min = 0;
  smooth.max = 0.95;
  smooth.step = 0.05;
  smooth.value = 0;
  smooth.addEventListener("change", () => {
    state.memory = Number(smooth.value);
    for (const each of state.shown.values()) each.version = null;
    tick();
  });
  const smoothing = make("label", "train-tool", "Smoothing");
  smoothing.append(smooth);
  const pause = button("Pause", "train-plain", () => { state.paused = !state.paused; say(pause, state.paused ? "Go on" : "Pause"); if (!state.paused) tick(); });
  tools.append(smoothing, pause);
  const grid = make("div", "train-panels");
  for (const panel of panels) {
    const one = make("section", "train-panel");
    one.dataset.panel = panel.id;
    one.hidden = true; // until it has a curve
    const title = make("h3", "", panel.title);
    if (panel.hint) title.title = panel.hint;
    const plot = make("div", "train-plot");
    const legend = make("p", "train-legend");
    one.append(title, legend, plot);
    if (panel.hint) one.append(make("p", "train-hint", panel.hint));
    grid.append(one);
    plots.set(panel.id, { box: one, plot, legend, panel, drawn: "" });
  }
  const none = make("p", "train-hint train-none");
  box.append(tools, none, grid);
}

const DASHED = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 4", longdashdot: "10 3 2 3" };

function legendOf(traces) {
  const seen = new Map();
  for (const trace of traces) if (trace.name && !seen.has(trace.legendgroup)) seen.set(trace.legendgroup, trace.line.dash);
  const pieces = [];
  for (const [label, dash] of seen) {
    const one = make("span", "train-curve");
    one.innerHTML = `<svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" stroke="currentColor" stroke-width="2" stroke-dasharray="${DASHED[dash] || ""}"/></svg>`;
    one.append(label);
    pieces.push(one);
  }
  return pieces;
}

async function drawPanels() {
  const none = detail.querySelector(".train-none");
  none.hidden = [...state.shown.values()].some((run) => Object.keys(run.traces).length);
  const run = lineOf(state.focus);
  say(none, !state.shown.size ? "Tick a run above to draw it here." :
    run && (ACTIVE.includes(run.state) || run.state === "queued") ? "Curves come with the first step." : "This run has no metrics.");
  let Plotly;
  try {
    Plotly = await withPlotly();
  } catch {
    return tell("The plots could not be loaded. Reload the page.");
  }
  const mark = [...state.shown].map(([id, each]) => `${id}:${each.colour}`).join();
  for (const [id, each] of plots) {
    const runs = [...state.shown.values()];
    const traces = runs.flatMap((run) => run.traces[id] || []);
    each.box.hidden = traces.length === 0;
    const version = mark + runs.map((run) => (run.traces[id] || []).map((trace) => trace.x.length + "/" + trace.x.at(-1)).join()).join(";") + state.memory;
    if (!traces.length || version === each.drawn) continue;
    each.drawn = version;
    each.legend.replaceChildren(...legendOf(traces));
    const layout = structuredClone(each.panel.layout);
    await Plotly.react(each.plot, traces.map((trace) => ({ ...trace, x: [...trace.x], y: [...trace.y] })), layout, { responsive: true, displayModeBar: false, doubleClick: "reset" });
  }
}

function takeCurves(curves) {
  let changed = false;
  for (const [id, { version, traces }] of Object.entries(curves)) {
    const shown = state.shown.get(id);
    if (!shown) continue;
    Object.assign(shown, { version, traces });
    changed = true;
  }
  if (changed || [...plots.values()].some((each) => !each.drawn)) drawPanels();
}
