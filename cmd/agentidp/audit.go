package main

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (c *command) audit() *cobra.Command {
	audit := &cobra.Command{Use: "audit", Short: "The record, and who watches it", Args: cobra.NoArgs, RunE: help}
	audit.AddCommand(c.verifyRecord(), c.exportRecord(), c.witness())
	return audit
}

// remoteHelp is what the commands that ask a server have in common.
const remoteHelp = `The server is asked as a client would: AGENTIDP_CLIENT_ID and AGENTIDP_CLIENT_SECRET,
or the name of a file in AGENTIDP_CLIENT_SECRET_FILE, name one that may audit:read, and
organizations:admin too for --all and --organization. Redirects are not followed.`

// exported says what to export.
type exported struct {
	url          string
	allowHTTP    bool
	format       string
	proof        bool
	all          bool
	organization string
	after        int64
	from, to     string
}

// remoteFlags are the flags that say whose events to ask for, and where.
func (e *exported) remoteFlags(cmd *cobra.Command, all string) {
	cmd.Flags().StringVar(&e.url, "url", "", "the server's URL")
	cmd.Flags().BoolVar(&e.allowHTTP, "allow-http", false, "send the client's secret in the clear, where the network is trusted")
	cmd.Flags().BoolVar(&e.all, "all", false, all)
	cmd.Flags().StringVar(&e.organization, "organization", "", "the id of another organization; only for the operator")
}

func (e *exported) check() error {
	for name, value := range map[string]string{"--from": e.from, "--to": e.to} {
		if _, err := time.Parse(time.RFC3339, value); value != "" && err != nil {
			return fmt.Errorf("%s: give a time such as 2026-01-02T03:04:05Z", name)
		}
	}
	switch {
	case e.format != "ndjson" && e.format != "csv" && e.format != "ocsf":
		return errors.New("--format: give ndjson, csv or ocsf")
	case e.proof && e.format != "ndjson":
		return errors.New("--proof: only ndjson has proofs")
	case e.all && e.organization != "":
		return errors.New("--organization: leave it out with --all")
	case e.after < 0:
		return errors.New("--after: a sequence is not negative")
	}
	return nil
}

func (e *exported) scopes() string {
	if e.all || e.organization != "" {
		return "audit:read organizations:admin"
	}
	return "audit:read"
}

func (e *exported) query() url.Values {
	q := url.Values{"format": {e.format}}
	for name, value := range map[string]string{"organizationId": e.organization, "from": e.from, "to": e.to} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range map[string]bool{"proof": e.proof, "all": e.all} {
		if value {
			q.Set(name, "true")
		}
	}
	if e.after > 0 {
		q.Set("after", strconv.FormatInt(e.after, 10))
	}
	return q
}
