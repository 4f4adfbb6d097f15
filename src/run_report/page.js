// Draws each chart of the page so that it can be zoomed (drag; double click for all) and says what is under the mouse.
// Without this script the pictures that are in the page already stay.
(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("data").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const value = (cell) => (cell === "" ? NaN : Array.isArray(cell) ? cell.map(value) : cell);
  const short = (x) => (x === null || x === undefined ? "" : Number(x.toPrecision(5)).toString());
  const tick = (x) => (x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e6) ? x.toExponential(1) : short(x));
  const drawn = [];

  function draw(id, chart) {
    const figure = document.getElementById(id);
    const place = document.createElement("div");
    place.style.cssText = "width:100%;height:100%";
    figure.querySelector(".plot").append(place);
    figure.classList.add("drawn");
    const readout = figure.querySelector(".readout");
    const series = {};
    chart.names.forEach((name, i) => {
      const look = chart.looks[i][1];
      series[name] = {
        strokeWidth: look === "faint" ? 0.8 : 1.8,
        strokePattern: look === "dashed" ? [5, 4] : null,
      };
    });
    const faint = (text, look) => (look === "faint" ? text + "73" : text);
    drawn.push([place, new Dygraph(place, chart.rows.map((row) => row.map(value)), {
      labels: ["step", ...chart.names],
      colors: chart.looks.map(([i, look]) => faint(color("--c" + i), look)),
      series,
      customBars: chart.ranges,
      connectSeparatedPoints: true,
      valueRange: chart.y,
      gridLineColor: color("--line"),
      axisLineColor: color("--soft"),
      fillAlpha: 0.16,
      highlightCircleSize: 3,
      drawPoints: chart.rows.length <= 12,
      pointSize: 3,
      axisLabelFontSize: 11,
      axes: { y: { axisLabelWidth: 52, axisLabelFormatter: tick } },
      legend: "never",
      highlightCallback: (event, x, points) => {
        readout.textContent = "step " + x + ": " +
          points.filter((p) => Number.isFinite(p.yval)).map((p) => p.name + " " + short(p.yval)).join(", ");
      },
      unhighlightCallback: () => { readout.textContent = ""; },
    })]);
  }

  function drawAll() {
    for (const [place, graph] of drawn.splice(0)) {
      graph.destroy();
      place.remove();
    }
    for (const [id, chart] of Object.entries(charts)) if (document.getElementById(id)) draw(id, chart);
  }
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
