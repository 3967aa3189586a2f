package agent

import "time"

// Change is what was decided for an agent together with many others, before it is
// written to the agent itself. Whoever reads the agent sees it as done.
type Change struct {
	// Becomes is its new status, empty where only its tokens end.
	Becomes Status
	// Since is from when the tokens count that an end of its tokens leaves.
	Since time.Time
}

// Apply makes the change: written or not, the agent looks the same.
func (c Change) Apply(a *Agent) {
	if c.Becomes != "" {
		a.Status = c.Becomes
	}
	if c.Becomes != Active && c.Since.After(a.TokensValidAfter) {
		a.TokensValidAfter = c.Since
	}
	if c.Since.After(a.UpdatedAt) {
		a.UpdatedAt = c.Since
	}
	a.Revision++
}
