package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/verify"
)

// redraw is how often a progress bar changes, and barWidth how wide it is.
const (
	redraw   = 100 * time.Millisecond
	barWidth = 24
)

// bar shows on a terminal how far a verification is.
type bar struct {
	w      io.Writer // nil: nobody is looking
	now    func() time.Time
	total  int64 // 0: not known
	bytes  bool  // total counts bytes, not leaves
	began  time.Time
	drawn  time.Time
	showed bool
}

func newBar(w io.Writer, total int64, bytes bool) *bar {
	b := &bar{now: time.Now, total: total, bytes: bytes, began: time.Now()}
	if isTerminal(w) {
		b.w = w
	}
	return b
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// update gives what to tell of progress; nil where nobody is looking.
func (b *bar) update() func(verify.Summary) {
	if b.w == nil {
		return nil
	}
	return func(sum verify.Summary) { b.draw(func(took time.Duration) string { return b.text(sum, took) }) }
}

// draw shows a text on the terminal's line, where somebody is looking and not too often.
func (b *bar) draw(text func(took time.Duration) string) {
	now := b.now()
	if b.w == nil || now.Sub(b.drawn) < redraw {
		return
	}
	b.drawn, b.showed = now, true
	_, _ = io.WriteString(b.w, "\r"+text(now.Sub(b.began))+"\x1b[K") // a bar that cannot be drawn stops nothing
}

func (b *bar) text(sum verify.Summary, took time.Duration) string {
	rate := float64(sum.Events) / max(took.Seconds(), 1e-3)
	if b.total <= 0 {
		return fmt.Sprintf("verifying  %d events  %.0f/s", sum.Events, rate)
	}
	done := sum.Leaves()
	if b.bytes {
		done = sum.Bytes
	}
	return b.gauge("verifying", done, took, fmt.Sprintf("%d events  %.0f/s", sum.Events, rate))
}

// gauge shows how much is done of the total, and how long the rest will take.
func (b *bar) gauge(doing string, done int64, took time.Duration, more string) string {
	part := min(1, float64(done)/float64(b.total))
	full := int(part * barWidth)
	text := fmt.Sprintf("%s [%s%s] %3.0f%%  %s", doing, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), part*100, more)
	if part > 0 {
		left := time.Duration(float64(took) * (1 - part) / part)
		text += fmt.Sprintf("  %s left", left.Round(time.Second))
	}
	return text
}

// clear takes the bar away.
func (b *bar) clear() {
	if b.showed {
		_, _ = io.WriteString(b.w, "\r\x1b[K")
	}
}
