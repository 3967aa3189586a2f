package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

func TestAnOrganizationHasABoundedNumberOfPolicies(t *testing.T) {
	s := apptest.Start(t, contract)
	admin := s.Admin()
	for i := range 200 {
		if got := s.Call(http.MethodPut, fmt.Sprintf("/rotation-policies/type-%d", i), admin, "{}"); got.Status != http.StatusOK {
			t.Fatalf("policy %d: %d %s", i, got.Status, got.Body)
		}
	}
	if got := s.Call(http.MethodPut, "/rotation-policies/one-more", admin, "{}"); got.Status != http.StatusConflict {
		t.Errorf("one more: %d %s", got.Status, got.Body)
	}
}
