package main

import (
	"fmt"
	"math"
	"strings"
)

// The measures of the picture, in its own units.
const (
	width, height = 760, 440
	left, right   = 70, 20
	top, bottom   = 40, 50
)

// chart draws p50 (dashed) and p99 against the rate that was asked for: latency by
// decades, in the open loop.
func chart(points []point) string {
	most, low, high := 1.0, math.Inf(1), 1.0
	for _, p := range points {
		most = max(most, p.Asked)
		low, high = min(low, float64(p.Latency.P50)), max(high, float64(p.Latency.P99))
	}
	bottomDecade, topDecade := math.Floor(math.Log10(min(low, high))), math.Ceil(math.Log10(high))
	x := func(rate float64) float64 { return left + rate/most*(width-left-right) }
	y := func(micros int64) float64 {
		at := (math.Log10(float64(max(micros, 1))) - bottomDecade) / max(topDecade-bottomDecade, 1)
		return height - bottom - at*(height-top-bottom)
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, width, height)
	p(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
	p(`<text x="%d" y="20" font-size="14">Latency of a token against load: p99, and p50 dashed</text>`, left)
	for decade := bottomDecade; decade <= topDecade; decade++ {
		at := y(int64(math.Pow(10, decade)))
		p(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/>`, left, width-right, at, at)
		p(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-6, at+4, spoken(math.Pow(10, decade)))
	}
	for i := range 6 {
		rate := most * float64(i) / 5
		p(`<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`, x(rate), height-bottom+18, rate)
	}
	p(`<text x="%d" y="%d" text-anchor="middle">tokens asked for a second</text>`, (left+width-right)/2, height-12)
	for i, target := range []struct{ name, label, colour string }{
		{theFloor, "floor: signs only", "#777777"}, {onSQLite, "SQLite", "#0b6e4f"}, {inPG, "PostgreSQL + Redis", "#2b59c3"},
	} {
		var slow, middle []string
		for _, one := range points {
			if one.Target == target.name {
				slow = append(slow, fmt.Sprintf("%.1f,%.1f", x(one.Asked), y(one.Latency.P99)))
				middle = append(middle, fmt.Sprintf("%.1f,%.1f", x(one.Asked), y(one.Latency.P50)))
			}
		}
		if len(slow) == 0 {
			continue
		}
		p(`<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`, target.colour, strings.Join(slow, " "))
		p(`<polyline fill="none" stroke="%s" stroke-width="1.5" stroke-dasharray="5 4" points="%s"/>`, target.colour, strings.Join(middle, " "))
		p(`<text x="%d" y="%d" fill="%s">%s</text>`, left+14, top+16+i*16, target.colour, target.label)
	}
	p(`</svg>`)
	return b.String()
}

// spoken gives a time in the unit it is spoken of in.
func spoken(micros float64) string {
	switch {
	case micros >= 1e6:
		return fmt.Sprintf("%g s", micros/1e6)
	case micros >= 1e3:
		return fmt.Sprintf("%g ms", micros/1e3)
	}
	return fmt.Sprintf("%g µs", micros)
}
