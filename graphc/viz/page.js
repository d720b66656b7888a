// The page of a picture: lays it out by Graphviz, opens and closes frames, finds, moves and zooms. Data come as JSON; no text becomes markup here.
(async () => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const main = document.querySelector("main"), tip = $("tip"), said = $("said"), root = document.documentElement;
  const frames = new Map(data.frames.map((f) => [f.id, f])), boxes = new Map(data.boxes.map((b) => [b.id, b]));
  document.title = data.title;

  // ---- what is to be seen: the twin of `collapsed` in picture.py ----

  function collapsed() {
    const held = new Map([["", ""]]);
    for (const f of data.frames) held.set(f.id, held.get(f.parent) || (f.closed ? f.id : ""));
    const at = new Map(data.boxes.map((b) => [b.id, held.get(b.frame) || b.id]));
    const seen = new Map();
    for (const b of data.boxes) {
      const f = held.get(b.frame);
      if (!f) seen.set(b.id, { id: b.id, frame: b.frame, look: b.look });
      else if (!seen.has(f)) seen.set(f, { id: f, frame: frames.get(f).parent, look: frames.get(f).summary });
    }
    const links = new Map();
    for (const x of data.links) {
      const a = at.get(x.tail), b = at.get(x.head), key = a + " " + b;
      const into = [x.tail, x.head].filter((end) => at.get(end) !== end).map((end) => frames.get(at.get(end)).kind);
      if (x.shared && into.includes("shared")) continue;
      if (a !== b && (!links.has(key) || (links.get(key).held && !x.held)))
        links.set(key, { a, b, look: into.includes("update") ? x.bare : x.look, up: x.up, held: x.held, free: x.free, top: x.top });
    }
    const below = new Set([...links.values()].filter((x) => !x.held && !x.free).map((x) => (x.up ? x.a : x.b)));
    for (const [key, x] of links) if (x.top && below.has(x.b)) links.delete(key);
    return { seen: [...seen.values()], links: [...links.values()], open: data.frames.filter((f) => !held.get(f.id)) };
  }

  function dot() {
    const { seen, links, open } = collapsed();
    const within = new Map([["", []]]), parts = new Map([["", []]]);
    for (const f of open) { within.set(f.id, []); parts.set(f.id, []); }
    for (const b of seen) within.get(b.frame).push(b);
    for (const f of open) parts.get(f.parent).push(f);
    const filled = (f) => within.get(f).length > 0 || parts.get(f).some((g) => filled(g.id));
    const out = ["digraph graphc {", ...data.head];
    const write = (f) => {
      for (const b of within.get(f)) out.push(b.id + " " + b.look);
      for (const g of parts.get(f)) if (filled(g.id)) {
        out.push(`subgraph cluster_${g.id} {`, "graph " + g.look);
        write(g.id);
        out.push("}");
      }
    };
    write("");
    for (const x of links) out.push((x.up ? `${x.b} -> ${x.a} ` : `${x.a} -> ${x.b} `) + x.look);
    for (const row of data.ranks) out.push(`{ rank=min; ${row.join(" -> ")} [style=invis] }`);
    return [...out, "}"].join("\n");
  }

  // ---- drawing ----

  const graphviz = await globalThis.graphcGraphviz.load();
  let svg = null, view = null, whole = null;

  function draw(keep) {
    let text;
    try {
      text = graphviz.layout(dot(), "svg", "dot");
    } catch (e) {
      said.textContent = "Graphviz could not lay this out: " + e + "\n(close some frames)";
      return;
    }
    said.textContent = "";
    const was = keep && svg ? centre(keep) : null;
    svg = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
    svg.removeAttribute("width");
    svg.removeAttribute("height");
    svg.setAttribute("role", "img");
    for (const e of svg.querySelectorAll("title")) { e.parentNode.dataset.id = e.textContent.replace(/^cluster_/, ""); e.remove(); }
    for (const e of svg.querySelectorAll("[fill], [stroke]"))
      for (const side of ["fill", "stroke"]) {
        const role = data.roles[e.getAttribute(side)];
        if (role) { e.removeAttribute(side); e.style[side] = `var(--${role})`; }
      }
    for (const e of svg.querySelectorAll("text[font-family]")) e.removeAttribute("font-family");
    main.replaceChildren(svg);
    for (const g of svg.querySelectorAll(".node")) {     // widths were estimated: the middle is right all the same
      const shape = g.querySelector("polygon, path, ellipse");
      if (!shape) continue;
      const b = shape.getBBox();
      for (const e of g.querySelectorAll("text")) { e.setAttribute("text-anchor", "middle"); e.setAttribute("x", b.x + b.width / 2); }
    }
    for (const e of svg.querySelectorAll(".node")) if (frames.has(e.dataset.id)) handle(e, "shut");
    for (const e of svg.querySelectorAll(".cluster")) if (frames.get(e.dataset.id).kind !== "lane") handle(e, "opens");
    const [x, y, w, h] = svg.getAttribute("viewBox").split(/[ ,]+/).map(Number);
    whole = { x, y, w, h };
    const now = was && centre(keep);
    if (now) { view.x += now.x - was.x; view.y += now.y - was.y; show(); } else fit();
    find();
    document.body.dataset.drawn = String(1 + Number(document.body.dataset.drawn || 0));
  }

  function handle(e, name) {
    e.classList.add(name);
    e.setAttribute("tabindex", "0");
    e.setAttribute("role", "button");
    e.setAttribute("aria-expanded", String(name === "opens"));
    e.setAttribute("aria-label", frames.get(e.dataset.id).title);
  }

  function centre(id) {                                  // of a box or frame, in the picture's own units
    const e = svg.querySelector(`[data-id="${id}"]`);
    if (!e) return null;
    const b = e.getBBox(), m = e.getCTM().inverse().multiply(svg.getCTM()).inverse();
    return new DOMPoint(b.x + b.width / 2, b.y + b.height / 2).matrixTransform(svg.getCTM().inverse().multiply(e.getCTM()));
  }

  function toggle(id) {
    const f = frames.get(id);
    f.closed = !f.closed;
    draw(id);
  }

  // ---- moving and zooming ----

  const show = () => svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
  function fit() {
    const top = 44 * Math.max(whole.w / main.clientWidth, whole.h / Math.max(main.clientHeight - 44, 1));     // room for the bar
    view = { x: whole.x, y: whole.y - top, w: whole.w, h: whole.h + top };
    show();
  }
  const point = (e) => new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
  function zoom(by, at) {
    view = { x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by, w: view.w * by, h: view.h * by };
    show();
  }
  const middle = () => ({ x: view.x + view.w / 2, y: view.y + view.h / 2 });

  main.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(Math.max(-50, Math.min(50, e.deltaY)) * 0.004), point(e)); }, { passive: false });
  const fingers = new Map();
  let start = null;
  main.addEventListener("pointerdown", (e) => { fingers.set(e.pointerId, e); start = { x: e.clientX, y: e.clientY, target: e.target, far: false }; });
  addEventListener("pointermove", (e) => {
    if (!fingers.has(e.pointerId)) { hover(e); return; }
    const before = fingers.get(e.pointerId), others = [...fingers.values()].filter((f) => f.pointerId !== e.pointerId);
    fingers.set(e.pointerId, e);
    if (Math.hypot(e.clientX - start.x, e.clientY - start.y) > 4) { start.far = true; main.classList.add("moving"); tip.hidden = true; }
    if (!start.far) return;
    if (others.length) {
      const far = (f) => Math.hypot(f.clientX - others[0].clientX, f.clientY - others[0].clientY) || 1;
      zoom(far(before) / far(e), point(others[0]));
      return;
    }
    const a = point(before), b = point(e);
    view.x += a.x - b.x;
    view.y += a.y - b.y;
    show();
  });
  const up = (e) => { fingers.delete(e.pointerId); main.classList.remove("moving"); };
  addEventListener("pointerup", up);
  addEventListener("pointercancel", up);
  main.addEventListener("click", (e) => {
    const g = e.target.closest(".shut, .opens");
    if (g && !(start && start.far)) toggle(g.dataset.id);
  });
  main.addEventListener("dblclick", (e) => { if (!e.target.closest(".node, .edge, .opens")) fit(); });
  addEventListener("keydown", (e) => {
    const g = document.activeElement && document.activeElement.closest(".shut, .opens");
    if (g && (e.key === "Enter" || e.key === " ")) { e.preventDefault(); toggle(g.dataset.id); return; }
    if (e.target.tagName === "INPUT") { if (e.key === "Escape") { e.target.value = ""; find(); e.target.blur(); } return; }
    if (e.key === "/") { e.preventDefault(); $("search").focus(); }
    if (e.key === "f") fit();
    if (e.key === "+") zoom(0.8, middle());
    if (e.key === "-") zoom(1.25, middle());
  });

  // ---- telling ----

  function hover(e) {
    const g = e.target.closest ? e.target.closest("main .node, main .edge, main .cluster") : null;
    const rows = g ? told(g.dataset.id) : [];
    main.classList.toggle("over", Boolean(g && g.classList.contains("node")));
    for (const x of main.querySelectorAll(".edge.near")) x.classList.remove("near");
    if (g && g.classList.contains("node"))
      for (const x of main.querySelectorAll(".edge")) x.classList.toggle("near", x.dataset.id.split("->").includes(g.dataset.id));
    tip.hidden = !rows.length;
    if (tip.hidden) return;
    const first = document.createElement("b");
    first.textContent = rows[0];
    tip.replaceChildren(first, rows.slice(1).join("\n"));
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = Math.max(4, Math.min(e.clientX + 14, innerWidth - w - 8)) + "px";
    tip.style.top = (e.clientY + 18 + h > innerHeight ? Math.max(4, e.clientY - h - 12) : e.clientY + 18) + "px";
  }
  function told(id) {
    if (boxes.has(id)) return boxes.get(id).tip;
    if (frames.has(id)) {
      const f = frames.get(id);
      return [...new Set([f.title, ...f.tip, ...(f.closed ? f.inside : []), ...(f.kind === "lane" ? [] : [f.closed ? "click to open" : "click to close"])])];
    }
    const [a, b] = id.split("->");
    const x = data.links.find((x) => x.tip && ((x.tail === a && x.head === b) || (x.tail === b && x.head === a)));
    return x ? [x.tip] : [];
  }

  // ---- finding ----

  let hits = [], hit = -1;
  function find() {
    const word = $("search").value.trim().toLowerCase();
    main.classList.toggle("searching", word !== "");
    const held = new Map([["", ""]]);
    for (const f of data.frames) held.set(f.id, held.get(f.parent) || (f.closed ? f.id : ""));
    const ids = new Set();
    if (word) for (const b of data.boxes) if (b.words.toLowerCase().includes(word)) ids.add(held.get(b.frame) || b.id);
    if (word) for (const f of data.frames) if (f.closed && f.title.toLowerCase().includes(word)) ids.add(held.get(f.id));
    hits = [];
    for (const e of main.querySelectorAll(".node")) { e.classList.toggle("hit", ids.has(e.dataset.id)); if (ids.has(e.dataset.id)) hits.push(e); }
    hit = -1;
    $("found").textContent = word ? `${hits.length} found` : "";
  }
  $("search").addEventListener("input", find);
  $("search").addEventListener("keydown", (e) => {
    if (e.key !== "Enter" || !hits.length) return;
    hit = (hit + (e.shiftKey ? hits.length - 1 : 1)) % hits.length;
    const c = centre(hits[hit].dataset.id), scale = Math.min(1, 700 / view.w);
    view = { x: c.x - view.w * scale / 2, y: c.y - view.h * scale / 2, w: view.w * scale, h: view.h * scale };
    show();
    $("found").textContent = `${hit + 1} of ${hits.length}`;
  });

  // ---- buttons ----

  $("open").addEventListener("click", () => { for (const f of data.frames) f.closed = false; draw(); });
  $("shut").addEventListener("click", () => { for (const f of data.frames) f.closed = f.kind !== "lane"; draw(); });
  $("fit").addEventListener("click", fit);
  $("night").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  $("save").addEventListener("click", () => {
    const copy = svg.cloneNode(true), style = getComputedStyle(root);
    copy.setAttribute("viewBox", `${whole.x} ${whole.y} ${whole.w} ${whole.h}`);
    copy.setAttribute("width", whole.w + "pt");
    copy.setAttribute("font-family", "Helvetica, Arial, sans-serif");
    for (const e of copy.querySelectorAll("[style]"))
      for (const side of ["fill", "stroke"]) {
        const m = /^var\((.*)\)$/.exec(e.style[side]);
        if (m) { e.style[side] = ""; e.setAttribute(side, style.getPropertyValue(m[1]).trim()); }
      }
    const a = document.createElement("a");
    a.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
    a.download = data.title.replace(/[^\w.-]+/g, "_") + ".svg";
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 1000);
  });

  await Promise.all([...document.fonts].map((f) => f.load().catch(() => null)));
  draw();
})();
