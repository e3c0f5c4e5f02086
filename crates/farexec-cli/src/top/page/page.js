// Asks for what `farexec top --web` knows, again and again, and shows it. Whatever comes from the program is set as text, never as markup.

const PATIENCE = 10_000; // ms until an answer is given up
const QUICKEST = 250; // ms between two questions, however short the interval is

const head = document.querySelector("#head");
const notice = document.querySelector("#notice");
const lastError = document.querySelector("#last-error");
const headings = document.querySelector("#gateways thead tr");
const body = document.querySelector("#gateways tbody");
const span = document.querySelector("#span");
const lanes = document.querySelector("#lanes");

const order = { sort: 0, reversed: false };
let shown = null;
let timer = null;
let asked = 0;

async function ask() {
  clearTimeout(timer);
  asked += 1;
  const question = asked;
  try {
    const query = `sort=${order.sort}${order.reversed ? "&reversed" : ""}`;
    const answer = await fetch(`state?${query}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) {
      throw new Error(await answer.text());
    }
    const state = await answer.json();
    // A later question, in another order, may have been answered first.
    if (question === asked) {
      shown = state;
      show();
    }
  } catch {
    tell(shown ? "farexec top does not answer any more. This is what it told last." : "farexec top does not answer.");
  }
  // Nobody looks at a page that is hidden.
  if (question === asked && !document.hidden) {
    timer = setTimeout(ask, Math.max((shown?.interval ?? 1) * 1000, QUICKEST));
  }
}

function show() {
  head.textContent = shown.head;
  document.title = `farexec top: ${shown.head}`;
  tell(shown.ended ? "The program has ended. This is what it told last." : "");
  lastError.hidden = shown.last_error === null;
  lastError.querySelector("span").textContent = shown.last_error ?? "";
  showHeadings();
  showRows();
  showLanes();
}

function tell(text) {
  notice.hidden = text === "";
  // It is read aloud when it changes, and only then.
  if (notice.textContent !== text) {
    notice.textContent = text;
  }
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className ?? "";
  return made;
}

function showHeadings() {
  if (headings.children.length === 0) {
    for (const [index, column] of shown.columns.entries()) {
      const heading = element("th", "", column.is_number ? "number" : "");
      heading.scope = "col";
      const button = element("button", column.name);
      button.type = "button";
      button.addEventListener("click", () => {
        order.reversed = order.sort === index && !order.reversed;
        order.sort = index;
        ask();
      });
      heading.append(button);
      headings.append(heading);
    }
  }
  for (const [index, heading] of [...headings.children].entries()) {
    const way = order.reversed ? "descending" : "ascending";
    heading.ariaSort = index === order.sort ? way : "none";
  }
}

// Rows stay the same elements as long as their gateways do, so that what is selected in them stays selected.
function showRows() {
  const there = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const rows = shown.rows.map(({ key, state, cells }) => {
    const row = there.get(key) ?? newRow(key);
    row.dataset.state = state;
    for (const [index, text] of cells.entries()) {
      if (row.children[index].textContent !== text) {
        row.children[index].textContent = text;
      }
    }
    return row;
  });
  if (rows.length !== body.children.length || rows.some((row, index) => body.children[index] !== row)) {
    body.replaceChildren(...rows);
  }
}

function newRow(key) {
  const row = document.createElement("tr");
  row.dataset.key = key;
  for (const [index, column] of shown.columns.entries()) {
    const cell = element(index === 0 ? "th" : "td", "", column.is_number ? "number" : "");
    if (index === 0) {
      cell.scope = "row";
    }
    row.append(cell);
  }
  return row;
}

function showLanes() {
  const { times, lanes: told } = shown.timeline;
  const most = Math.max(0, ...told.flatMap(({ slices }) => slices.map((slice) => (slice?.[1] ?? 0) + (slice?.[2] ?? 0))));
  span.textContent = `The last ${duration(shown.span)}, now at the right. A bar as high as its lane: ${most || "no"} items between two looks.`;
  lanes.classList.toggle("many", told.length > 30);
  while (lanes.children.length > told.length) {
    lanes.lastElementChild.remove();
  }
  while (lanes.children.length < told.length) {
    const lane = document.createElement("li");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    lane.append(element("b", ""), canvas, element("i", ""));
    lanes.append(lane);
  }
  const colors = getComputedStyle(document.documentElement);
  for (const [index, { name, slices }] of told.entries()) {
    const [label, canvas, sum] = lanes.children[index].children;
    const count = (which) => slices.reduce((total, slice) => total + (slice?.[which] ?? 0), 0);
    const busy = slices.filter((slice) => slice?.[0] === "busy").length;
    const there = slices.filter((slice) => slice !== null).length;
    label.textContent = name;
    label.title = name;
    sum.textContent = `${count(1)} done, ${count(2)} raised`;
    canvas.ariaLabel = `${name}: busy at ${busy} of ${there} looks, ${sum.textContent}`;
    draw(canvas, times, slices, most, colors);
  }
}

function draw(canvas, times, slices, most, colors) {
  const scale = window.devicePixelRatio;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  canvas.width = width; // which also wipes it
  canvas.height = height;
  const context = canvas.getContext("2d");
  const now = times.at(-1);
  const place = (time) => Math.max(0, Math.round(width * (1 - (now - time) / shown.span)));
  const color = (name) => colors.getPropertyValue(`--${name}`).trim();
  for (const [index, slice] of slices.entries()) {
    if (slice === null) {
      continue;
    }
    const [activity, done, failed] = slice;
    const begin = place(times[index - 1] ?? times[index] - shown.interval);
    const across = Math.max(place(times[index]) - begin, 1);
    context.fillStyle = color(activity);
    context.fillRect(begin, 0, across, height);
    // What was done at all is to be seen.
    const bar = (count) => (count === 0 ? 0 : Math.max(scale, (count / most) * height));
    context.fillStyle = color("done");
    context.fillRect(begin, height - bar(done), across, bar(done));
    context.fillStyle = color("failed");
    context.fillRect(begin, 0, across, bar(failed));
  }
}

function duration(seconds) {
  const units = [
    [86400, "days"],
    [3600, "hours"],
    [60, "minutes"],
  ];
  const [size, unit] = units.find(([size]) => seconds >= 2 * size) ?? [1, "seconds"];
  return `${Math.round(seconds / size)} ${unit}`;
}

document.addEventListener("visibilitychange", () => document.hidden || ask());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && showLanes());
window.addEventListener("resize", () => shown && showLanes());
ask();
