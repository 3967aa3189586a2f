package audit_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// TestTheListOfActionsIsWhole reads the constants, so that a new one is not
// forgotten in the list, by which the record is searched.
func TestTheListOfActionsIsWhole(t *testing.T) {
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	var constants []audit.Action
	for line := range strings.Lines(string(source)) {
		if _, value, ok := strings.Cut(line, " Action = "); ok {
			constants = append(constants, audit.Action(strings.Trim(strings.TrimSpace(value), `"`)))
		}
	}
	if listed := audit.Actions(); len(constants) == 0 || !slices.Equal(listed, constants) {
		t.Errorf("Actions lists\n%v\nthere are\n%v", listed, constants)
	}
}
