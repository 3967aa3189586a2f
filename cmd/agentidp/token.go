package main

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func (c *command) token() *cobra.Command {
	var f remoteFlags
	var scopes, resources []string
	cmd := &cobra.Command{
		Use: "token", Short: "Get an access token", Args: cobra.NoArgs,
		Long: `token gets an access token by the client credentials grant and prints it. Without --scope
it carries every capability of the client that is no management scope.

` + sessionHelp,
		Example: `  agentidp token --scope invoices:read --resource https://invoices.example.com
  curl -H "Authorization: Bearer $(agentidp token --scope agents:read)" "$AGENTIDP_URL/agents"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.session(&f, "")
			if err != nil {
				return err
			}
			asked := url.Values{}
			if len(scopes) > 0 {
				asked.Set("scope", strings.Join(scopes, " "))
			}
			if len(resources) > 0 {
				asked["resource"] = resources
			}
			g, err := c.grant(cmd.Context(), s.client, asked)
			if err != nil {
				return told(err)
			}
			out := &printer{w: cmd.OutOrStdout()}
			if !f.json {
				out.line("%s", g.AccessToken)
				return out.err
			}
			text, err := json.Marshal(g) //nolint:gosec // whoever asks for the token is given it
			if err != nil {
				return err
			}
			out.line("%s", text)
			return out.err
		},
	}
	cmd.Flags().StringVar(&f.url, "url", "", "the server's URL (default: AGENTIDP_URL, else AGENTIDP_ISSUER)")
	cmd.Flags().BoolVar(&f.allowHTTP, "allow-http", false, "send the client's secret in the clear, where the network is trusted")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the whole answer, as JSON")
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "what the token is to be good for; repeat it, or separate by commas")
	cmd.Flags().StringArrayVar(&resources, "resource", nil, "the service that it is for (RFC 8707); may be repeated")
	return cmd
}
