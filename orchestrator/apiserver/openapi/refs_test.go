package openapi

import (
	"regexp"
	"testing"
)

// A definition that names a model which isn't there makes kubectl refuse whatever it validates by version 2.
func TestEveryDefinitionThatIsNamedIsThere(t *testing.T) {
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`"\$ref":"` + refPrefixV3 + `([^"]+)"`)
	for name, raw := range all {
		for _, m := range pattern.FindAllSubmatch(raw, -1) {
			if _, ok := all[string(m[1])]; !ok {
				t.Errorf("%s names %s, which isn't there: openapigen's list of packages lacks its package", name, m[1])
			}
		}
	}
}
