"use strict";
// What the page does: it draws the figures that it holds with plotly.js, lists episodes with Tabulator, and shows one.
const page = JSON.parse(document.getElementById("page-data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const paper = matchMedia("print");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Where nothing hovers, plotly would show its buttons always, over the titles.
const bar = matchMedia("(hover: hover)").matches ? "hover" : false;
const drawn = new Map();
const filmSource = (address) => page.films[address] || address;

function merged(own, more) {
  const result = { ...own };
  for (const [name, value] of Object.entries(more)) {
    result[name] = value && typeof value === "object" && !Array.isArray(value) ? merged(result[name] || {}, value) : value;
  }
  return result;
}

function look(figure, width) {
  const colours = [1, 2, 3, 4, 5, 6, 0].map((n) => css(`--s${n}`));
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const data = figure.data.map((trace) => {
    const at = trace.meta ? trace.meta.colour : 0;
    const colour = colours[at % colours.length];
    const dash = dashes[Math.floor(at / colours.length) % dashes.length];
    return merged({ type: "scatter", marker: { color: colour }, line: { color: colour, dash } }, trace);
  });
  const shapes = (figure.layout.shapes || []).map((shape) => merged({ line: { color: css("--alarm") } }, shape));
  const axis = { gridcolor: css("--line"), linecolor: css("--line"), zerolinecolor: css("--line"), automargin: true };
  const narrow = width < 620;
  const layout = merged({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: narrow ? 460 : 380, hovermode: "closest",
    font: { family: "inherit", color: css("--ink"), size: 13 }, margin: { l: 56, r: 16, t: 12, b: narrow ? 52 + Math.min(20 * figure.data.length, 190) : 52 }, xaxis: axis,
    yaxis: axis, showlegend: figure.data.length > 1,
    legend: narrow || figure.data.length > 24 ? { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 } : { x: figure.layout.yaxis2 ? 1.1 : 1.02, y: 1 },
  }, figure.layout);
  if (shapes.length) layout.shapes = shapes;
  // A line of its own has no place while nothing is drawn on this axis, and ticks like those of the other are odd numbers.
  if (layout.yaxis2) layout.yaxis2 = merged({ ...axis, linecolor: undefined, tickmode: "auto" }, layout.yaxis2);
  if (narrow && layout.yaxis.automargin && layout.yaxis.autorange === "reversed") layout.font.size = 10;
  return [data, layout];
}

async function draw(element, figure) {
  const [data, layout] = look(figure, element.clientWidth || 800);
  await Plotly.react(element, data, layout, { responsive: true, displaylogo: false, displayModeBar: bar });
  drawn.set(element, figure);
}

async function drawAll() {
  for (const element of document.querySelectorAll("[data-chart]")) {
    await draw(element, page.charts[element.dataset.chart]);
    await new Promise((next) => setTimeout(next, 0));
  }
  document.documentElement.dataset.charts = String(drawn.size);
}

dark.addEventListener("change", () => drawn.forEach((figure, element) => draw(element, figure)));
paper.addEventListener("change", () => drawn.forEach((_, element) => Plotly.Plots.resize(element)));

// Tables of the page: a box that keeps the rows that hold its words. Sorting is sortable-tablesort's.
for (const box of document.querySelectorAll("input[data-filters]")) {
  const rows = [...document.getElementById(box.dataset.filters).tBodies[0].rows];
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

for (const element of document.querySelectorAll("video[data-film]")) element.src = filmSource(element.dataset.film);

const list = page.episodes;
const cell = (name, place) => list.texts[name].values[list.texts[name].codes[place]];

function episodes() {
  const groups = new Map();
  list.key.forEach((key, place) => {
    const group = `${key}|${cell("timing", place)}`;
    if (key && list.flipped[place] && !list.control[place]) groups.set(group, [...(groups.get(group) || []), place]);
  });
  return list.key.map((key, place) => {
    const others = (groups.get(`${key}|${cell("timing", place)}`) || []).filter(
      (other) => list.flipped[place] && cell("outcome", other) !== cell("outcome", place));
    return {
      id: place, others, policy: cell("policy", place), suite: cell("suite", place), task: cell("task", place),
      outcome: cell("outcome", place), init: list.numbers.init_state_id[place], trial: list.numbers.trial[place],
      steps: list.numbers.steps[place], error: cell("error", place), held: cell("held", place),
      flip: others.map((other) => `${cell("policy", other)}: ${cell("outcome", other)}`).join("; "),
      video: list.video[place], control: list.control[place],
    };
  });
}

const plain = (found) => {
  const span = document.createElement("span");
  span.textContent = found.getValue() ?? "–";
  return span;
};

function listEpisodes(element, count, chips) {
  const rows = episodes(), scale = parseFloat(getComputedStyle(document.body).fontSize) / 15;
  const used = (name) => rows.some((row) => row[name] !== "" && row[name] !== null);
  const column = (title, field, more) => ({ title, field, formatter: plain, headerFilter: "input",
    headerFilterPlaceholder: "filter", headerFilterParams: { elementAttributes: { "aria-label": `Filter ${title}` } },
    ...more });
  const number = { hozAlign: "right", headerHozAlign: "right", sorter: "number", width: 84 * scale };
  const columns = [
    { title: "", field: "id", width: 76 * scale, headerSort: false, responsive: 0, formatter: (found) => {
      const button = document.createElement("button");
      button.textContent = "open";
      button.setAttribute("aria-label", `Open ${found.getRow().getData().task}, ${found.getRow().getData().policy}`);
      button.addEventListener("click", () => showEpisode(found.getRow().getData()));
      return button;
    } },
    column("outcome", "outcome", { width: 112 * scale, responsive: 0 }), column("policy", "policy", { minWidth: 120, responsive: 1 }),
    column("task", "task", { minWidth: 150, widthGrow: 3, responsive: 0 }), column("init state", "init", { ...number, responsive: 2 }),
    column("trial", "trial", { ...number, responsive: 5 }), column("steps", "steps", { ...number, responsive: 3 }),
    column("others on this episode", "flip", { minWidth: 150, widthGrow: 2, responsive: 2 }),
    column("goals", "held", { minWidth: 140, responsive: 4 }), column("error", "error", { minWidth: 140, responsive: 3 }),
    column("suite", "suite", { minWidth: 110, responsive: 6 }),
  ].filter((one) => one.field === "id" || used(one.field));
  const table = new Tabulator(element, {
    data: rows, columns, layout: "fitColumns", responsiveLayout: "hide", maxHeight: 460,
    placeholder: "No episode is left: clear a filter.", headerSortClickElement: "header",
  });
  const kinds = {
    failed: (row) => row.outcome !== "success" && !row.control, flips: (row) => row.others.length > 0,
    errors: (row) => row.outcome === "error", all: () => true,
  };
  const choose = (kind) => {
    table.setFilter((row) => kinds[kind](row));
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.kind === kind));
  };
  for (const chip of chips) {
    chip.querySelector("b").textContent = String(rows.filter(kinds[chip.dataset.kind]).length);
    chip.addEventListener("click", () => choose(chip.dataset.kind));
  }
  table.on("dataFiltered", (_, left) => { count.textContent = `${left.length} of ${rows.length} episodes`; });
  table.on("tableBuilt", () => { choose(page.judged && rows.some(kinds.flips) ? "flips" : rows.some(kinds.failed) ? "failed" : "all"); element.dataset.ready = "yes"; });
  window.episodeTable = table;
}

const dialog = document.getElementById("episode");

function fact(body, name, value) {
  if (value === null || value === undefined || value === "") return;
  const term = document.createElement("dt"), told = document.createElement("dd");
  term.textContent = name;
  told.textContent = value;
  body.append(term, told);
}

function video(src, label) {
  const figure = document.createElement("figure"), film = document.createElement("video"), words = document.createElement("figcaption");
  Object.assign(film, { controls: true, muted: true, preload: "metadata", src: filmSource(src) });
  film.setAttribute("playsinline", "");
  film.setAttribute("aria-label", `Video of ${label}`);
  words.textContent = label;
  figure.append(film, words);
  return figure;
}

// Two videos of one episode play as one: what is done to either is done to the other.
function together(films) {
  let leading = false;
  const alone = (change) => { leading = true; films.forEach(change); setTimeout(() => { leading = false; }, 300); };
  dialog.querySelector(".last-frame").onclick = () => alone((film) => { film.pause(); film.currentTime = film.duration || 0; });
  dialog.querySelector(".from-start").onclick = () => alone((film) => { film.currentTime = 0; film.play().catch(() => {}); });
  const follow = (from, change) => {
    if (leading) return;
    leading = true;
    for (const other of films) if (other !== from) change(other);
    setTimeout(() => { leading = false; }, 60);
  };
  for (const film of films) {
    film.addEventListener("play", () => follow(film, (other) => { other.currentTime = film.currentTime; other.play().catch(() => {}); }));
    film.addEventListener("pause", () => { if (!film.ended) follow(film, (other) => { other.pause(); other.currentTime = film.currentTime; }); });
    film.addEventListener("seeked", () => follow(film, (other) => { other.currentTime = film.currentTime; }));
    film.addEventListener("ratechange", () => follow(film, (other) => { other.playbackRate = film.playbackRate; }));
  }
}

// Paths of an episode, of the others on it as well: seen from above, and height with gripper over control steps.
function drawMotion(places) {
  const told = places.filter((place) => list.motion[place]);
  dialog.querySelector(".no-motion").hidden = told.length > 0;
  dialog.querySelector(".motion").hidden = told.length === 0;
  if (!told.length) return;
  const below = { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 };
  const name = (place) => `${cell("policy", place)}: ${cell("outcome", place)}`;
  const above = told.flatMap((place, at) => {
    const [x, y] = list.motion[place];
    return [
      { name: name(place), x, y, mode: "lines", meta: { colour: at } },
      { name: "end", x: x.slice(-1), y: y.slice(-1), mode: "markers", marker: { size: 11, symbol: "x" }, showlegend: false, meta: { colour: at } },
    ];
  });
  draw(dialog.querySelector(".seen-from-above"), { data: above, layout: {
    height: 360, title: { text: "end effector from above; × its end", font: { size: 13 } }, margin: { t: 36 }, showlegend: told.length > 1, legend: below,
    xaxis: { title: { text: "x, m" } }, yaxis: { title: { text: "y, m" }, scaleanchor: "x" },
  } });
  const time = told.flatMap((place, at) => {
    const [, , z, gripper] = list.motion[place];
    return [
      { name: `height: ${name(place)}`, y: z, mode: "lines", meta: { colour: at } },
      ...(gripper.length ? [{ name: `gripper: ${name(place)}`, y: gripper, mode: "lines", line: { shape: "hv", dash: "dot" }, yaxis: "y2", meta: { colour: at } }] : []),
    ];
  });
  draw(dialog.querySelector(".over-time"), { data: time, layout: {
    height: 360, title: { text: "height, and what the gripper was told", font: { size: 13 } }, margin: { t: 36, b: 120 }, legend: below,
    xaxis: { title: { text: "control step" } }, yaxis: { title: { text: "z, m" } },
    yaxis2: { title: { text: "gripper" }, overlaying: "y", side: "right", showgrid: false },
  } });
}

function showEpisode(row) {
  dialog.querySelector("h2").textContent = `${row.policy}: ${row.outcome}`;
  const facts = dialog.querySelector("dl");
  facts.replaceChildren();
  fact(facts, "task", row.task);
  fact(facts, "suite", row.suite);
  fact(facts, "init state", row.init);
  fact(facts, "trial", row.trial);
  fact(facts, "steps", row.steps);
  fact(facts, "goals", row.held);
  fact(facts, "error", row.error);
  fact(facts, "others", row.flip);
  const films = dialog.querySelector(".pair");
  const shown = [row.id, ...row.others].filter((place) => list.video[place]);
  films.replaceChildren(...shown.map((place) => video(list.video[place], `${cell("policy", place)}: ${cell("outcome", place)}`)));
  dialog.querySelector(".film-buttons").hidden = shown.length === 0;
  together([...films.querySelectorAll("video")]);
  const flights = list.flights[row.id], chart = dialog.querySelector(".timeline");
  dialog.querySelector(".no-decisions").hidden = Boolean(flights);
  chart.hidden = !flights;
  dialog.querySelector(".replay").textContent = cell("replay", row.id).replace("KEY", list.key[row.id]);
  if (!dialog.open) dialog.showModal();
  drawMotion([row.id, ...row.others]);
  if (!flights) return;
  const steps = row.steps, n = flights[0].length, every = n ? Math.max(1, Math.round(steps / n)) : 1;
  const x = flights[0].map((_, at) => at);
  const data = ["queue", "inference", "transport"].map((name, part) => ({
    type: "bar", name: `${name}, ms`, x, y: flights[part], meta: { colour: part },
  })).filter((trace, part) => flights[part].some((value) => value));
  if (flights[3].some((value) => value)) data.push({ name: "delay, control steps", x, y: flights[3], mode: "lines+markers", yaxis: "y2", meta: { colour: 3 } });
  draw(chart, { data, layout: {
    barmode: "stack", height: 300, xaxis: { title: { text: `decision (about every ${every} steps)` } },
    yaxis: { title: { text: "ms" } }, yaxis2: { title: { text: "steps" }, overlaying: "y", side: "right", rangemode: "tozero", showgrid: false },
  } });
}

if (dialog) {
  dialog.querySelector("button.close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.querySelectorAll("video").forEach((film) => film.pause()));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  for (const flip of document.querySelectorAll("[data-episode]")) {
    const rows = episodes();
    flip.addEventListener("click", () => showEpisode(rows[Number(flip.dataset.episode)]));
  }
  listEpisodes(document.getElementById("episode-list"), document.getElementById("episode-count"),
    [...document.querySelectorAll(".kinds button")]);
}
drawAll();
