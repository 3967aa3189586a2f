package main

import (
	_ "embed" // the release
	"encoding/json"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// release is written by who builds one; it is empty in the repository.
//
//go:embed release.txt
var release string

func versionCommand() *cobra.Command {
	var sbom bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Long: `version prints the release, or the commit that a build without a release was made from.
With --sbom it prints what this very program was built of, as a software bill of
materials in CycloneDX 1.6 (JSON): two builds of one source print the same.`,
		Example: "  agentidp version\n  agentidp version --sbom > agentidp.cdx.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := &printer{w: cmd.OutOrStdout()}
			if !sbom {
				out.line("agentidp %s", version())
				return out.err
			}
			body, err := json.MarshalIndent(billOfMaterials(), "", "  ")
			if err != nil {
				return err
			}
			out.line("%s", body)
			return out.err
		},
	}
	cmd.Flags().BoolVar(&sbom, "sbom", false, "print the software bill of materials instead")
	return cmd
}

// version is the release, or the module's version, or the commit it was built from.
func version() string {
	if r := strings.TrimSpace(release); r != "" {
		return r
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "dev-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "dev"
}

// bill is a CycloneDX document. It has no time and no serial number, so that it depends on
// nothing but the source.
type bill struct {
	Format      string       `json:"bomFormat"`
	SpecVersion string       `json:"specVersion"`
	Version     int          `json:"version"`
	Metadata    metadata     `json:"metadata"`
	Components  []component  `json:"components"`
	DependsOn   []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// billOfMaterials reads what the linker wrote into this program.
func billOfMaterials() bill {
	b := bill{Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Components: []component{}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	b.Metadata.Component = component{Type: "application", Ref: "agentidp", Name: "agentidp", Version: version()}
	std := strings.TrimPrefix(info.GoVersion, "go")
	b.Components = append(b.Components, golang("std", std, ""))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Components = append(b.Components, golang(m.Path, m.Version, m.Sum))
	}
	all := dependency{Ref: "agentidp", DependsOn: []string{}}
	for _, c := range b.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	b.DependsOn = []dependency{all}
	return b
}

// golang describes a module.
func golang(path, version, sum string) component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	c := component{Type: "library", Ref: purl, Name: path, Version: version, PURL: purl}
	if sum != "" {
		c.Properties = []property{{"go:sum", sum}}
	}
	return c
}
