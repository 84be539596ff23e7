package webhooks

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	"github.com/manul-net/manul/internal/validate"
)

// dropped finds fields that the kind does not have. The API server removes them before it asks a webhook, unless the client wants it to be
// strict. What it removed can still be seen in what kubectl apply leaves behind in an annotation: the manifest as it was written. A policy
// of which a part is gone may allow what its author denied, and is refused; of others there is a warning.
func dropped(req *admission.Request, obj client.Object, known kind) verdict {
	validation := fieldValidation(req)
	if validation == metav1.FieldValidationStrict {
		return verdict{} // the API server has refused them
	}
	written, ok := manifest(req, obj, known.empty)
	if !ok {
		if validation == metav1.FieldValidationIgnore {
			return verdict{warnings: []string{"the client asked for fieldValidation=Ignore: fields that the kind does not have were removed without a word; ask for Strict to be told"}}
		}
		return verdict{} // the API server warns of them
	}
	var v verdict
	unknown, _ := kjson.UnmarshalStrict(written, known.empty()) // that it can be read is known
	for _, err := range unknown {
		path, ok := unknownField(err.Error())
		if !ok || !strings.HasPrefix(path, "spec.") {
			continue
		}
		advice := "there is no such field: " + validate.FieldAdvice(req.Kind.Kind, path)
		if known.others || known.setting {
			v.warnings = append(v.warnings, path+" was removed: "+advice)
		} else {
			v.errs = append(v.errs, field.Forbidden(field.NewPath(path), advice))
		}
	}
	return v
}

// fieldValidation is what the client asked the API server to do about unknown fields; empty when it did not say.
func fieldValidation(req *admission.Request) string {
	var options struct {
		FieldValidation string `json:"fieldValidation"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(req.Options.Raw, &options); err != nil {
		return ""
	}
	return options.FieldValidation
}

// manifest is what the author of this very request wrote; false when that can't be told. An annotation that was there before is about
// an earlier request, and one that names another object came along with a copy of it.
func manifest(req *admission.Request, obj client.Object, empty func() client.Object) ([]byte, bool) {
	text := obj.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if text == "" {
		return nil, false
	}
	before := empty()
	if len(req.OldObject.Raw) > 0 {
		if err := kjson.UnmarshalCaseSensitivePreserveInts(req.OldObject.Raw, before); err != nil || before.GetAnnotations()[corev1.LastAppliedConfigAnnotation] == text {
			return nil, false
		}
	}
	written := empty()
	if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(text), written); err != nil || written.GetName() != obj.GetName() || written.GetNamespace() != obj.GetNamespace() {
		return nil, false
	}
	return []byte(text), true
}

// unknownField reads the path of a field out of what a strict decoder says.
func unknownField(message string) (string, bool) {
	found := regexp.MustCompile(`^unknown field "(.*)"$`).FindStringSubmatch(message)
	if found == nil {
		return "", false
	}
	return found[1], true
}
