package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// flatten writes what a CRD promises as lines: names, columns, subresources, and each field with its type and bounds.
func flatten(crd *apiextensionsv1.CustomResourceDefinition) []string {
	names := crd.Spec.Names
	lines := []string{fmt.Sprintf("resource %s %s %s %s", names.Kind, names.Plural, names.Singular, crd.Spec.Scope)}
	for _, short := range names.ShortNames {
		lines = append(lines, "short "+short)
	}
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		lines = append(lines, fmt.Sprintf("version %s/%s", crd.Spec.Group, v.Name))
		if v.Subresources != nil && v.Subresources.Status != nil {
			lines = append(lines, "subresource status")
		}
		for _, c := range v.AdditionalPrinterColumns {
			lines = append(lines, fmt.Sprintf("column %q %s", c.Name, c.JSONPath))
		}
		root := v.Schema.OpenAPIV3Schema
		for _, name := range slices.Sorted(maps.Keys(root.Properties)) {
			if name == "apiVersion" || name == "kind" || name == "metadata" {
				continue
			}
			lines = append(lines, flattenField(name, root.Properties[name], slices.Contains(root.Required, name))...)
		}
	}
	return lines
}

func flattenField(path string, s apiextensionsv1.JSONSchemaProps, required bool) []string {
	attrs := attributes(&s)
	if required {
		attrs = append(attrs, "required")
	}
	lines := []string{"field " + path + ": " + strings.Join(attrs, " ")}
	if s.Items != nil && s.Items.Schema != nil {
		lines = append(lines, flattenField(path+"[]", *s.Items.Schema, false)...)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		lines = append(lines, flattenField(path+"{}", *s.AdditionalProperties.Schema, false)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		lines = append(lines, flattenField(path+"."+name, s.Properties[name], slices.Contains(s.Required, name))...)
	}
	return lines
}

// attributes are the type and the bounds of a field, in a fixed order.
func attributes(s *apiextensionsv1.JSONSchemaProps) []string {
	kind := s.Type
	if s.XIntOrString {
		kind = "int|string"
	}
	attrs := []string{kind}
	add := func(ok bool, format string, args ...any) {
		if ok {
			attrs = append(attrs, fmt.Sprintf(format, args...))
		}
	}
	add(s.Format != "", "format=%s", s.Format)
	if len(s.Enum) > 0 {
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = strings.Trim(string(v.Raw), `"`)
		}
		slices.Sort(values)
		add(true, "enum=%s", strings.Join(values, "|"))
	}
	if s.Default != nil {
		var v any
		if err := json.Unmarshal(s.Default.Raw, &v); err != nil {
			v = err
		}
		add(true, "default=%v", v)
	}
	add(s.Pattern != "", "pattern=%s", s.Pattern)
	if s.Minimum != nil {
		add(true, "minimum=%.0f", *s.Minimum)
	}
	if s.Maximum != nil {
		add(true, "maximum=%.0f", *s.Maximum)
	}
	for _, bound := range []struct {
		name  string
		value *int64
	}{{"minLength", s.MinLength}, {"maxLength", s.MaxLength}, {"minItems", s.MinItems}, {"maxItems", s.MaxItems}} {
		if bound.value != nil {
			add(true, "%s=%d", bound.name, *bound.value)
		}
	}
	if s.XListType != nil {
		add(true, "list=%s", *s.XListType)
	}
	add(len(s.XListMapKeys) > 0, "keys=%s", strings.Join(s.XListMapKeys, ","))
	add(s.Nullable, "nullable")
	add(s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields, "any")
	return attrs
}
