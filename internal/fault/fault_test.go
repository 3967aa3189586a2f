package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func TestCauseStaysReachableAndOutOfTheMessage(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("committing: %w", fault.UnavailableBecause(cause))
	if !errors.Is(err, cause) {
		t.Error("the cause is lost to the log")
	}
	got := fault.As(err)
	if got == nil || got.Kind != fault.Unavailable || got.RetryAfter <= 0 {
		t.Fatalf("As(%v) = %+v, want an Unavailable error that says when to retry", err, got)
	}
	if got.Message == got.Error() {
		t.Error("the log text should name the cause beside the message")
	}
	if !fault.Is(err, fault.CodeUnavailable) || fault.Is(cause, fault.CodeUnavailable) {
		t.Error("Is should follow the chain and refuse foreign errors")
	}
}
