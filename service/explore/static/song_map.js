// The map of the songs. Points and names are fetched once; groups of songs are drawn above them.
import { echarts } from "nicegui-echart";

const GROUPS = ["found", "next", "playlist"];
const SIZES = { found: 9, next: 10, playlist: 13 };

export default {
  template: '<div><div ref="chart" class="song-map-canvas"></div></div>',
  props: { points: String, names: String, marks: Object },
  async mounted() {
    const [points, names] = await Promise.all([fetch(this.points), fetch(this.names)]);
    this.positions = new Float32Array(await points.arrayBuffer());
    this.songNames = await names.json();
    if (!this.$refs.chart) return;
    this.chart = echarts.init(this.$refs.chart, null, { renderer: "canvas" });
    this.chart.setOption(this.buildOptions());
    this.chart.on("click", (event) => this.$emit("pick", this.findRow(event)));
    this.observer = new ResizeObserver(() => this.chart.resize());
    this.observer.observe(this.$refs.chart);
    this.themes = new MutationObserver(() => this.chart.setOption(this.buildOptions()));
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.$el.dataset.ready = this.songNames.length;
  },
  beforeUnmount() {
    this.observer?.disconnect();
    this.themes?.disconnect();
    this.chart?.dispose();
  },
  watch: {
    marks() {
      this.chart?.setOption({ series: this.buildMarks() });
    },
  },
  methods: {
    colour(name) {
      return getComputedStyle(document.body).getPropertyValue(name).trim();
    },
    findRow(event) {
      return event.seriesId === "songs" ? event.dataIndex : event.data.row;
    },
    buildOptions() {
      // Both axes have the same scale, so that distances mean the same in all directions.
      const { clientWidth: width, clientHeight: height } = this.$refs.chart;
      const ratio = width / Math.max(1, height);
      const [x, y] = ratio > 1 ? [ratio, 1] : [1, 1 / ratio];
      const axis = (limit) => ({ show: false, type: "value", min: -1.06 * limit, max: 1.06 * limit });
      const zoom = { type: "inside", filterMode: "none", minSpan: 1 };
      return {
        animation: false,
        grid: { left: 0, right: 0, top: 0, bottom: 0 },
        xAxis: axis(x),
        yAxis: axis(y),
        dataZoom: [
          { ...zoom, xAxisIndex: 0 },
          { ...zoom, yAxisIndex: 0 },
        ],
        tooltip: {
          trigger: "item",
          renderMode: "richText", // names are text, never markup
          confine: true,
          backgroundColor: this.colour("--card"),
          borderColor: this.colour("--line"),
          textStyle: { color: this.colour("--ink"), fontSize: 13 },
          formatter: (event) => this.songNames[this.findRow(event)],
        },
        series: [
          {
            id: "songs",
            type: "scatter",
            large: true,
            largeThreshold: 0,
            progressive: 0,
            dimensions: ["x", "y"],
            data: this.positions,
            symbolSize: this.songNames.length > 10000 ? 2 : 3,
            itemStyle: { color: this.colour("--dot") },
            z: 1,
          },
          ...this.buildMarks(),
        ],
      };
    },
    buildMarks() {
      return GROUPS.map((group, order) => ({
        id: group,
        type: "scatter",
        data: (this.marks[group] || []).map((row) => ({
          row,
          value: [this.positions[2 * row], this.positions[2 * row + 1]],
        })),
        symbolSize: SIZES[group],
        itemStyle: {
          color: this.colour(`--map-${group}`),
          borderColor: this.colour("--card"),
          borderWidth: 1.5,
        },
        z: 2 + order,
      }));
    },
  },
};
