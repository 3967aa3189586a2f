package apptest

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Mutant is a value that breaks one rule of a schema, and nothing else.
type Mutant struct {
	// Rule says which rule, and where: "capabilities: maxItems".
	Rule  string
	Value any
}

// Mutants breaks every rule of the schema once, starting from a value that keeps
// all of them.
func Mutants(schema *openapi3.Schema, valid any) []Mutant {
	all := mutateType(schema, valid)
	switch {
	case schema.Type.Is("object"):
		all = append(all, mutateObject(schema, valid)...)
	case schema.Type.Is("array"):
		all = append(all, mutateArray(schema, valid)...)
	case schema.Type.Is("string"):
		text, _ := valid.(string)
		all = append(all, mutateString(schema, text)...)
	case schema.Type.Is("integer"):
		all = append(all, mutateInteger(schema)...)
	}
	return all
}

func mutateType(schema *openapi3.Schema, valid any) []Mutant {
	var all []Mutant
	for name, value := range map[string]any{"string": "text", "integer": json.Number("7"), "boolean": true, "array": []any{}, "object": map[string]any{}} {
		if !schema.Type.Is(name) {
			all = append(all, Mutant{"type is not " + name, value})
		}
	}
	if schema.Type.Is("integer") {
		all = append(all, Mutant{"type: not whole", json.Number("100.5")})
	}
	if !schema.Nullable && valid != nil {
		all = append(all, Mutant{"not nullable", nil})
	}
	return all
}

func mutateObject(schema *openapi3.Schema, valid any) []Mutant {
	object, _ := valid.(map[string]any)
	with := func(name string, value any) map[string]any {
		changed := maps.Clone(object)
		if changed == nil {
			changed = map[string]any{}
		}
		changed[name] = value
		return changed
	}
	var all []Mutant
	for _, name := range schema.Required {
		lacking := maps.Clone(object)
		delete(lacking, name)
		all = append(all, Mutant{name + ": required", lacking})
	}
	if schema.AdditionalProperties.Has != nil && !*schema.AdditionalProperties.Has {
		all = append(all, Mutant{"additionalProperties", with("unexpected", "x")})
	}
	for name, property := range schema.Properties {
		for _, m := range Mutants(property.Value, object[name]) {
			all = append(all, Mutant{name + ": " + m.Rule, with(name, m.Value)})
		}
	}
	return all
}

func mutateArray(schema *openapi3.Schema, valid any) []Mutant {
	elements, _ := valid.([]any)
	if len(elements) == 0 {
		return nil
	}
	var all []Mutant
	if schema.MinItems > 0 {
		all = append(all, Mutant{"minItems", elements[:schema.MinItems-1]})
	}
	if schema.MaxItems != nil {
		var many []any
		for i := range *schema.MaxItems + 1 {
			text, _ := elements[0].(string)
			many = append(many, text+strconv.FormatUint(i, 10))
		}
		all = append(all, Mutant{"maxItems", many})
	}
	if schema.UniqueItems {
		all = append(all, Mutant{"uniqueItems", append(slices.Clone(elements), elements[0])})
	}
	for _, m := range Mutants(schema.Items.Value, elements[0]) {
		changed := slices.Clone(elements)
		changed[0] = m.Value
		all = append(all, Mutant{"items: " + m.Rule, changed})
	}
	return all
}

func mutateString(schema *openapi3.Schema, valid string) []Mutant {
	var all []Mutant
	if schema.MinLength > 0 {
		all = append(all, Mutant{"minLength", strings.Repeat("a", int(schema.MinLength)-1)}) //nolint:gosec // small
	}
	if schema.MaxLength != nil {
		all = append(all, Mutant{"maxLength", valid + strings.Repeat("a", int(*schema.MaxLength)+1)}) //nolint:gosec // small
	}
	if schema.Pattern != "" {
		pattern := regexp.MustCompile(schema.Pattern)
		for _, candidate := range []string{"two  words", valid + "!", "UPPER", "é", valid + "\n"} {
			if !pattern.MatchString(candidate) {
				all = append(all, Mutant{"pattern: " + strconv.Quote(candidate), candidate})
			}
		}
	}
	if len(schema.Enum) > 0 {
		all = append(all, Mutant{"enum", "nonsense"})
	}
	switch schema.Format {
	case "uuid":
		all = append(all, Mutant{"format uuid", "not-a-uuid"}, Mutant{"format uuid", "3f1d8a526c1e4b8e9a560d3f4f1f9b11"})
	case "date-time":
		all = append(all, Mutant{"format date-time", "yesterday"}, Mutant{"format date-time", "2026-13-01T00:00:00Z"})
	}
	return all
}

func mutateInteger(schema *openapi3.Schema) []Mutant {
	var all []Mutant
	number := func(f float64) json.Number { return json.Number(strconv.FormatFloat(f, 'f', -1, 64)) }
	if schema.Min != nil {
		all = append(all, Mutant{"minimum", number(*schema.Min - 1)})
	}
	if schema.Max != nil {
		all = append(all, Mutant{"maximum", number(*schema.Max + 1)})
	}
	return append(all, Mutant{"more than 64 bits", json.Number("99999999999999999999")})
}
