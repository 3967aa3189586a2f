package revocation

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/printable"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// MaxAgentIDs bounds the ids that one selector names.
const MaxAgentIDs = 1000

// Selector says which agents of an organization are meant: those that every member that
// is set agrees with, archived ones never. The zero Selector would mean all of them, and
// is refused.
type Selector struct {
	AgentIDs      []uuid.UUID `json:"agentIds,omitempty"`
	Owner         string      `json:"owner,omitempty"`
	AgentType     string      `json:"agentType,omitempty"`
	DeploymentEnv string      `json:"deploymentEnv,omitempty"`
	Capability    string      `json:"capability,omitempty"`
	// IssuedBefore means what the agents hold that was issued before it: the tokens that
	// Tokens ends, and for all else the agents that have a live credential so old.
	IssuedBefore time.Time `json:"issuedBefore,omitzero"`
}

// IsZero reports whether no member is set.
func (s Selector) IsZero() bool {
	return len(s.AgentIDs) == 0 && s.Owner == "" && s.AgentType == "" && s.DeploymentEnv == "" && s.Capability == "" && s.IssuedBefore.IsZero()
}

// String gives the selector as JSON, as it is recorded.
func (s Selector) String() string {
	text, _ := json.Marshal(s) // texts, ids and times always encode
	return string(text)
}

// ParseSelector reads what String gave.
func ParseSelector(text string) (Selector, error) {
	var s Selector
	err := json.Unmarshal([]byte(text), &s)
	return s, err
}

// Action is what is done to the agents.
type Action string

// The actions. Reactivate is how a suspension is undone; nobody asks for it by itself.
const (
	Suspend    Action = "suspend"
	Revoke     Action = "revoke"
	Tokens     Action = "tokens"
	Reactivate Action = "reactivate"
)

// Becomes is the status that the action gives an agent, empty where it keeps its own.
func (a Action) Becomes() agent.Status {
	switch a {
	case Suspend:
		return agent.Suspended
	case Revoke:
		return agent.Revoked
	case Reactivate:
		return agent.Active
	case Tokens:
	}
	return ""
}

// From lists the statuses that the action changes anything of.
func (a Action) From() []agent.Status {
	switch a {
	case Revoke:
		return []agent.Status{agent.Active, agent.Suspended}
	case Reactivate:
		return []agent.Status{agent.Suspended}
	case Suspend, Tokens:
	}
	return []agent.Status{agent.Active}
}

// Order is what a caller asks for.
type Order struct {
	Selector Selector
	Action   Action
	Reason   string
}

// Validate names everything that is wrong with an order (VALIDATION_ERROR).
func (s *Service) Validate(o Order) error {
	var wrong []fault.Field
	require := func(ok bool, field, rule, message string) {
		if !ok {
			wrong = append(wrong, fault.Field{Field: field, Rule: rule, Message: field + " " + message})
		}
	}
	sel := o.Selector
	require(!sel.IsZero(), "selector", "minProperties", "must name at least one thing that agents have: an empty one would mean all of them")
	require(len(sel.AgentIDs) <= MaxAgentIDs, "selector.agentIds", "maxItems", "must name at most "+strconv.Itoa(MaxAgentIDs)+" agents")
	if len(sel.AgentIDs) <= MaxAgentIDs {
		sorted := slices.SortedFunc(slices.Values(sel.AgentIDs), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
		require(len(slices.Compact(sorted)) == len(sel.AgentIDs), "selector.agentIds", "unique", "must not repeat an agent")
	}
	wrong = append(wrong, printable.Check("selector.owner", sel.Owner, agent.MaxOwner)...)
	require(sel.AgentType == "" || agent.ValidType(sel.AgentType), "selector.agentType", "pattern", "must be a kind of agent, such as invoice-reader")
	require(sel.DeploymentEnv == "" || agent.ValidEnvironment(sel.DeploymentEnv), "selector.deploymentEnv", "enum", "must be development, staging or production")
	require(sel.Capability == "" || scope.ValidName(sel.Capability), "selector.capability", "pattern", "must be resource:action in lower case, at most 128 characters")
	require(!sel.IssuedBefore.After(s.micros()), "selector.issuedBefore", "maximum", "must not lie in the future")
	require(slices.Contains([]Action{Suspend, Revoke, Tokens}, o.Action), "action", "enum", "must be suspend, revoke or tokens")
	wrong = append(wrong, printable.Check("reason", o.Reason, agent.MaxReason)...)
	if len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	return nil
}
