package apptest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/getkin/kin-openapi/openapi3"
)

// ndjson is the media type of lines of JSON.
const ndjson = "application/x-ndjson"

// LineSchema gives the schema that the lines of a body keep, nil where the contract does
// not name one (x-line).
func (c *Contract) LineSchema(content openapi3.Content) *openapi3.Schema {
	media := content[ndjson]
	if media == nil {
		return nil
	}
	name, _ := media.Extensions["x-line"].(string)
	if schema := c.Doc.Components.Schemas[name]; schema != nil {
		return schema.Value
	}
	return nil
}

// checkLines holds the lines that were accepted, and all that were answered, against the
// contract.
func (c *Contract) checkLines(operation *openapi3.Operation, sent []byte, status int, contentType string, got []byte) error {
	response := operation.Responses.Status(status)
	if contentType != ndjson || response == nil {
		return nil
	}
	schema := c.LineSchema(response.Value.Content)
	if schema == nil {
		return nil
	}
	answers, err := Lines(got)
	if err != nil {
		return err
	}
	asked := bytes.Split(sent, []byte("\n"))
	for _, answer := range answers {
		if err := schema.VisitJSON(answer, openapi3.EnableFormatValidation()); err != nil {
			return fmt.Errorf("the line %v is not as the contract says: %w", answer, err)
		}
		if operation.RequestBody == nil || answer["result"] == "failed" {
			continue
		}
		n, _ := answer["line"].(float64)
		if int(n) < 1 || int(n) > len(asked) {
			return fmt.Errorf("the answer %v is to no line", answer)
		}
		var line any
		if err := json.Unmarshal(asked[int(n)-1], &line); err != nil {
			return fmt.Errorf("it accepted a line that is no JSON: %w", err)
		}
		if err := c.LineSchema(operation.RequestBody.Value.Content).VisitJSON(line); err != nil {
			return fmt.Errorf("it accepted a line that the contract does not allow: %w", err)
		}
	}
	return nil
}

// Lines reads lines of JSON objects.
func Lines(text []byte) ([]map[string]any, error) {
	var all []map[string]any
	for line := range bytes.Lines(text) {
		var one map[string]any
		if err := json.Unmarshal(line, &one); err != nil {
			return all, fmt.Errorf("%q is no line of JSON: %w", line, err)
		}
		all = append(all, one)
	}
	return all, nil
}
