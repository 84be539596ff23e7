package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"math"
	"slices"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/manul-net/manul/hack/plots/measured"
)

const (
	width, height = 17 * vg.Centimeter, 9 * vg.Centimeter
	lineWidth     = vg.Length(1.5)
	dotRadius     = vg.Length(2.5)
	legendOffset  = vg.Length(6)
	// headroom above the highest value, for the legend.
	headroom = 1.6
	// margin to the right, for the last number below the axis.
	margin = 1.5
	// fonts are the one that places of texts were computed with, those of the same widths, and what every reader has: a browser that finds
	// none of them takes one with serifs.
	fonts = "Liberation Sans,Arial,Helvetica,sans-serif"
)

// picture is one chart: values over a number of things, on a logarithmic axis.
type picture struct {
	file, title, x, y string
	lines             func(measured.Figures) []line
}

// line joins the medians; bars show the lowest and the highest of several runs.
type line struct {
	name   string
	points []point
	// dashed: a level to compare with.
	dashed bool
}

type point struct {
	x      float64
	values []float64 // in ascending order
}

func (p point) median() float64 { return p.values[len(p.values)/2] }

// series are the points of a line: at each x the values of one figure. Those that were not measured are left out.
func series(xs []float64, values func(x float64) []float64) []point {
	var out []point
	for _, x := range xs {
		if v := values(x); len(v) > 0 {
			out = append(out, point{x, v})
		}
	}
	return out
}

// colors tell lines apart, also for those who see few colors.
func colors() []color.Color {
	return []color.Color{
		color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
		color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff},
		color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
		color.RGBA{R: 0xcc, G: 0x79, B: 0xa7, A: 0xff},
		color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
		color.RGBA{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff},
	}
}

// bars implement plotter's interfaces for lines with error bars.
type bars []point

func (b bars) Len() int                    { return len(b) }
func (b bars) XY(i int) (float64, float64) { return b[i].x, b[i].median() }
func (b bars) YError(i int) (low, high float64) {
	v := b[i].values
	return v[0] - b[i].median(), v[len(v)-1] - b[i].median()
}

// draw makes the picture as SVG.
func (p picture) draw(figures measured.Figures) ([]byte, error) {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	chart := plot.New()
	chart.Title.Text, chart.X.Label.Text, chart.Y.Label.Text = p.title, p.x, p.y
	chart.X.Scale = plot.LogScale{}
	chart.Legend.Top, chart.Legend.Left, chart.Legend.XOffs = true, true, legendOffset
	chart.Add(plotter.NewGrid())
	drawn, highest, left, right := 0, 0.0, math.Inf(1), 0.0
	ticks := plot.ConstantTicks{}
	for _, l := range p.lines(figures) {
		if len(l.points) == 0 {
			continue
		}
		if err := add(chart, l, colors()[drawn%len(colors())]); err != nil {
			return nil, fmt.Errorf("line %q: %w", l.name, err)
		}
		for _, at := range l.points {
			highest = max(highest, at.values[len(at.values)-1])
			left, right = min(left, at.x), max(right, at.x)
			if slices.ContainsFunc(ticks, func(t plot.Tick) bool { return t.Value == at.x }) {
				continue
			}
			ticks = append(ticks, plot.Tick{Value: at.x, Label: readable(at.x)})
		}
		drawn++
	}
	if drawn == 0 {
		return nil, errors.New("there are no figures for it")
	}
	chart.X.Min, chart.X.Max, chart.X.Tick.Marker = left, right*margin, ticks
	if left == right {
		chart.X.Min, chart.X.Max = left/2, right*2 //nolint:mnd // something on both sides
	}
	chart.Y.Min, chart.Y.Max, chart.Y.Tick.Marker = 0, highest*headroom, separated{chart.Y.Tick.Marker}
	to, err := chart.WriterTo(width, height, "svg")
	if err != nil {
		return nil, fmt.Errorf("making an SVG: %w", err)
	}
	var out bytes.Buffer
	if _, err := to.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("making an SVG: %w", err)
	}
	return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:"+fonts+";")), nil
}

// separated are ticks whose numbers bear thousands separators, and no digits that say nothing.
type separated struct{ plot.Ticker }

// Ticks implements plot.Ticker.
func (s separated) Ticks(from, to float64) []plot.Tick {
	ticks := s.Ticker.Ticks(from, to)
	for i := range ticks {
		if ticks[i].Label != "" { // else it is a small one between two of them
			ticks[i].Label = readable(ticks[i].Value)
		}
	}
	return ticks
}

func readable(v float64) string {
	return message.NewPrinter(language.English).Sprint(number.Decimal(v))
}

func add(chart *plot.Plot, l line, in color.Color) error {
	path, dots, err := plotter.NewLinePoints(bars(l.points))
	if err != nil {
		return err
	}
	path.Color, path.Width, dots.Color, dots.Radius, dots.Shape = in, lineWidth, in, dotRadius, draw.CircleGlyph{}
	if l.dashed {
		path.Dashes = []vg.Length{vg.Points(4), vg.Points(3)} //nolint:mnd // a dash and a gap
		chart.Add(path)
		chart.Legend.Add(l.name, path)
		return nil
	}
	spread, err := plotter.NewYErrorBars(bars(l.points))
	if err != nil {
		return err
	}
	spread.Color = in
	chart.Add(path, dots, spread)
	chart.Legend.Add(l.name, path, dots)
	return nil
}
