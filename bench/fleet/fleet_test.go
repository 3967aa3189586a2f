package fleet_test

import (
	"testing"

	"git.sentryagent.ai/sentryagent-idp/bench/fleet"
)

func TestAMemberFollowsFromItsNumber(t *testing.T) {
	for _, n := range []int{0, 1, 999_999} {
		a, err := fleet.Nth(n)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fleet.Nth(n)
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Errorf("member %d is once %+v and once %+v", n, a, b)
		}
	}
}
