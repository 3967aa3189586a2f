package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/leak"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// How reporters sign, after the secret-scanning partner programme of GitHub.
const (
	reporterKey       = "Github-Public-Key-Identifier"
	reporterSignature = "Github-Public-Key-Signature"
)

// foundView is a secret that a reporter found.
type foundView struct {
	Token  *string `json:"token"`
	Type   string  `json:"type"`
	URL    string  `json:"url"`
	Source string  `json:"source"`
}

// verdictView answers one, never with the secret.
type verdictView struct {
	Hash  string `json:"token_hash"`
	Type  string `json:"token_type"`
	Label string `json:"label"`
}

// reportLeaks acts on secrets that a reporter found. The signature is over the body, so
// that it is read before anything else is known of the caller.
func (h *Handler) reportLeaks(ctx context.Context, c call) (reply, error) {
	body, err := readBody(c.w, c.r)
	if err == nil {
		err = wantMedia(c.r, "application/json")
	}
	if err != nil {
		return nil, err
	}
	reporter := c.r.Header.Get(reporterKey)
	err = h.cfg.ReporterKeys.Verify(reporter, c.r.Header.Get(reporterSignature), body)
	if errors.Is(err, leak.ErrUnsigned) {
		return nil, fault.New(fault.Unauthenticated, fault.CodeAuthentication, err.Error())
	}
	if err != nil {
		return nil, err
	}
	found, err := readReports(&c, body)
	if err != nil {
		return nil, err
	}
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	origin := request.Origin(ctx)
	origin.Actor = audit.Actor{Type: audit.TypeSystem, ID: "leak report"}
	verdicts, err := h.cfg.Leaks.Found(ctx, origin, reporter, found)
	if err != nil {
		return nil, err
	}
	views := make([]verdictView, len(verdicts))
	for i, v := range verdicts {
		views[i] = verdictView{Hash: hex.EncodeToString(v.Hash[:]), Type: v.Type, Label: "false_positive"}
		if v.True {
			views[i].Label = "true_positive"
		}
	}
	return answer(http.StatusOK, views), nil
}

// readReports reads the list of a report. Members that it does not know are left alone:
// a reporter adds some when it likes.
func readReports(c *call, body []byte) ([]leak.Report, error) {
	if err := scanJSON("body", body); err != nil {
		return nil, err
	}
	var views []*foundView
	if err := json.Unmarshal(body, &views); err != nil || views == nil {
		return nil, fault.InvalidField("body", "type", "the body must be a list of objects, whose members are strings")
	}
	if len(views) == 0 {
		c.wrong("body", "minItems", "must name at least one secret")
	}
	if len(views) > leak.MaxReports {
		return nil, fault.InvalidField("body", "maxItems", "body must name at most 100 secrets")
	}
	var found []leak.Report
	for i, v := range views {
		if v == nil || v.Token == nil || *v.Token == "" {
			c.wrong("["+strconv.Itoa(i)+"].token", "required", "is required")
			continue
		}
		found = append(found, leak.Report{Token: secret.New(*v.Token), Type: v.Type, URL: v.URL, Source: v.Source})
	}
	return found, nil
}

// knownView says what is known of a key id.
type knownView struct {
	KeyID        string     `json:"keyId"`
	Status       string     `json:"status"`
	AgentID      *uuid.UUID `json:"agentId"`
	CredentialID *uuid.UUID `json:"credentialId"`
}

type knownList struct {
	Items []knownView `json:"items"`
}

func (h *Handler) lookUpSecrets(ctx context.Context, c call) (reply, error) {
	o, err := c.object(false)
	if err != nil {
		return nil, err
	}
	var keyIDs []string
	if _, there := o.members["keyIds"]; !there {
		o.known = append(o.known, "keyIds")
		o.wrong("keyIds", "required", "is required")
	} else if all := o.texts("keyIds"); all != nil {
		keyIDs = *all
		if len(keyIDs) < 1 {
			o.wrong("keyIds", "minItems", "must name at least one key id")
		}
		if len(keyIDs) > leak.MaxReports {
			o.wrong("keyIds", "maxItems", "must name at most 100 key ids")
			keyIDs = nil
		}
	}
	for i, keyID := range keyIDs {
		if !credential.IsKeyID(keyID) {
			o.wrong("keyIds["+strconv.Itoa(i)+"]", "pattern", "must be 12 letters and digits")
		}
	}
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	known, err := h.cfg.Leaks.Lookup(ctx, c.tenant, keyIDs)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewKnown(known, h.cfg.Now())), nil
}

func viewKnown(known []leak.Known, now time.Time) knownList {
	list := knownList{Items: make([]knownView, 0, len(known))}
	for _, k := range known {
		v := knownView{KeyID: k.KeyID, Status: "unknown", AgentID: maybe(k.Credential.AgentID), CredentialID: maybe(k.Credential.ID)}
		if k.Credential.ID != uuid.Nil {
			v.Status = string(k.Credential.Status(now))
		}
		list.Items = append(list.Items, v)
	}
	return list
}
