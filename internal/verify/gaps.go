package verify

import (
	"cmp"
	"slices"
)

// A page is pageSize leaves.
const (
	pageBits = 12
	pageSize = 1 << pageBits
)

// gaps are the leaves that were not shown and that no drop has named so far: whole
// pages as spans, single leaves as one bit each. What is explained is forgotten.
type gaps struct {
	spans []span // of page numbers, ascending, not touching
	pages map[int64]*leafPage
}

type span struct{ from, to int64 }

type leafPage struct {
	words [pageSize / 64]uint64
	left  int
}

// set sets (or clears) the bits from..to of the page and gives how many changed.
func (p *leafPage) set(from, to int64, value bool) int {
	changed := 0
	for i := from; i < to; i++ {
		word, bit := &p.words[i/64], uint64(1)<<(i%64)
		if (*word&bit != 0) != value {
			*word ^= bit
			changed++
		}
	}
	if value {
		p.left += changed
	} else {
		p.left -= changed
	}
	return changed
}

// add takes the leaves of a subtree, to the right of all before it: less than a page
// and within one, or whole pages.
func (g *gaps) add(from, to int64) {
	if to-from < pageSize {
		g.page(from>>pageBits).set(from%pageSize, from%pageSize+to-from, true)
		return
	}
	first, end := from>>pageBits, to>>pageBits
	if n := len(g.spans); n > 0 && g.spans[n-1].to == first {
		g.spans[n-1].to = end
		return
	}
	g.spans = append(g.spans, span{first, end})
}

func (g *gaps) page(number int64) *leafPage {
	p := g.pages[number]
	if p == nil {
		if g.pages == nil {
			g.pages = map[int64]*leafPage{}
		}
		p = &leafPage{}
		g.pages[number] = p
	}
	return p
}

// explain takes the leaves from..to out and gives how many of them there were.
func (g *gaps) explain(from, to int64) (explained int64) {
	first, end := from>>pageBits, (to+pageSize-1)>>pageBits
	if from%pageSize != 0 || end-first == 1 && to%pageSize != 0 {
		upTo := min(to, (first+1)<<pageBits)
		explained += g.explainIn(first, from%pageSize, upTo-first<<pageBits)
		first++
	}
	if first < end && to%pageSize != 0 {
		end--
		explained += g.explainIn(end, 0, to%pageSize)
	}
	if first < end {
		explained += g.explainPages(first, end)
	}
	return explained
}

// explainIn takes leaves out of one page.
func (g *gaps) explainIn(number, from, to int64) int64 {
	if at, found := g.find(number); found {
		whole := g.spans[at]
		g.cut(at, at+1, span{whole.from, number}, span{number + 1, whole.to})
		g.page(number).set(0, pageSize, true)
	}
	p := g.pages[number]
	if p == nil {
		return 0
	}
	n := p.set(from, to, false)
	if p.left == 0 {
		delete(g.pages, number)
	}
	return int64(n)
}

// explainPages takes whole pages out.
func (g *gaps) explainPages(first, end int64) (explained int64) {
	at, _ := g.find(first)
	next := at
	var before, after span
	for ; next < len(g.spans) && g.spans[next].from < end; next++ {
		s := g.spans[next]
		explained += (min(s.to, end) - max(s.from, first)) << pageBits
		if s.from < first {
			before = span{s.from, first}
		}
		if s.to > end {
			after = span{end, s.to}
		}
	}
	g.cut(at, next, before, after)
	if end-first < int64(len(g.pages)) {
		for number := first; number < end; number++ {
			explained += g.forget(number)
		}
		return explained
	}
	for number := range g.pages {
		if number >= first && number < end {
			explained += g.forget(number)
		}
	}
	return explained
}

func (g *gaps) forget(number int64) int64 {
	p := g.pages[number]
	if p == nil {
		return 0
	}
	delete(g.pages, number)
	return int64(p.left)
}

// find gives the first span that ends after the page, and whether it holds it.
func (g *gaps) find(number int64) (int, bool) {
	at, _ := slices.BinarySearchFunc(g.spans, number, func(s span, n int64) int { return cmp.Compare(s.to, n+1) })
	return at, at < len(g.spans) && g.spans[at].from <= number
}

// cut replaces spans from..to by what is left of them.
func (g *gaps) cut(from, to int, rest ...span) {
	rest = slices.DeleteFunc(rest, func(s span) bool { return s.from >= s.to })
	g.spans = slices.Replace(g.spans, from, to, rest...)
}

// first gives the first leaf that is left.
func (g *gaps) first() (leaf int64, found bool) {
	if len(g.spans) > 0 {
		leaf, found = g.spans[0].from<<pageBits, true
	}
	for number, p := range g.pages {
		if found && number > leaf>>pageBits {
			continue
		}
		for i := range int64(pageSize) {
			if p.words[i/64]&(1<<(i%64)) != 0 {
				leaf, found = number<<pageBits+i, true
				break
			}
		}
	}
	return leaf, found
}
