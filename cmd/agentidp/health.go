package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

// healthTimeout bounds the question of the health command.
const healthTimeout = 5 * time.Second

func (c *command) health() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running server how it is",
		Long: `health asks a running server how it is, prints the answer, and exits with 0 where
it can serve and with 1 where it cannot or does not answer. It fits a container's
health check. Without --url it asks the server of HOST and PORT, and believes the
certificate in TLS_CERT_FILE; a --url must have one that this machine trusts.`,
		Example: "  agentidp health\n  agentidp health --url https://idp.example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address != "" {
				return askHealth(cmd.Context(), http.DefaultClient, address, cmd.OutOrStdout())
			}
			cfg, err := c.config()
			if err != nil {
				return err
			}
			client, err := localClient(cfg)
			if err != nil {
				return fmt.Errorf("TLS_CERT_FILE: %w", err)
			}
			return askHealth(cmd.Context(), client, localURL(cfg), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "the server's URL (default: of HOST and PORT)")
	return cmd
}

func localURL(cfg *config.Config) string {
	host := cfg.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if cfg.TLSCertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(cfg.Port))
}

// localClient asks the server on this machine. A certificate is made out to the name
// that clients use, not to the address asked here, and who signed it need not be
// known here: the file itself says what is right.
func localClient(cfg *config.Config) (*http.Client, error) {
	if cfg.TLSCertFile == "" {
		return &http.Client{Transport: &http.Transport{}}, nil
	}
	chain, err := os.ReadFile(cfg.TLSCertFile)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(chain)
	first, err := firstCertificate(chain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.TLSCertFile, err)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: nameFor(cfg, first), MinVersion: tls.VersionTLS12},
	}}, nil
}

func firstCertificate(chain []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, fmt.Errorf("holds no certificate (PEM)")
}

// nameFor is the issuer's host where the certificate is made out to it, and else the
// certificate's first name.
func nameFor(cfg *config.Config, cert *x509.Certificate) string {
	if issuer, err := url.Parse(cfg.Issuer); err == nil && cert.VerifyHostname(issuer.Hostname()) == nil {
		return issuer.Hostname()
	}
	switch {
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	case len(cert.IPAddresses) > 0:
		return cert.IPAddresses[0].String()
	}
	return ""
}

func askHealth(ctx context.Context, client *http.Client, address string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/health", nil)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if _, err := fmt.Fprintf(out, "%s\n", body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server is not healthy: %s", resp.Status)
	}
	return nil
}
