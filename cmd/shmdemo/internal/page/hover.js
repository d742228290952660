// The names of the drawings are for those who do not see them: as they are, they would show at the pointer, too.
for (const chart of document.querySelectorAll("svg.chart")) {
	chart.setAttribute("aria-label", chart.querySelector("title").textContent);
	chart.removeAttribute("aria-labelledby");
	chart.querySelector("title").remove();
}
// What is at the pointer, from the table of the same section. Without it the table itself says so.
for (const section of document.querySelectorAll("section.time")) {
	const table = section.querySelector("table");
	const heads = Array.from(table.tHead.rows[0].cells, c => c.textContent);
	const rows = Array.from(table.tBodies[0].rows);
	if (rows.length === 0) continue;
	const end = Number(rows.at(-1).dataset.at);
	const tip = document.getElementById("tip");
	const cursors = Array.from(section.querySelectorAll(".cursor"));
	const quit = () => { for (const c of [tip, ...cursors]) c.hidden = true; };
	for (const field of section.querySelectorAll(".field")) {
		field.addEventListener("pointerleave", quit);
		field.addEventListener("pointermove", e => {
			const box = field.getBoundingClientRect();
			const share = Math.min(1, Math.max(0, (e.clientX - box.left) / box.width));
			for (const c of cursors) { c.hidden = false; c.style.left = 100 * share + "%"; }
			if (e.target.querySelector(":scope > title") !== null) { tip.hidden = true; return; } // it speaks for itself
			const row = rows.find(r => Number(r.dataset.at) >= share * end) ?? rows.at(-1);
			tip.textContent = Array.from(row.cells, (c, i) => heads[i] + ": " + c.textContent).join("\n");
			tip.hidden = false;
			const right = e.clientX + 16 + tip.offsetWidth >= innerWidth;
			tip.style.left = Math.max(4, right ? e.clientX - 16 - tip.offsetWidth : e.clientX + 16) + "px";
			tip.style.top = Math.max(4, Math.min(e.clientY + 12, innerHeight - tip.offsetHeight - 4)) + "px";
		});
	}
}
