package stream

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/render"
)

func keyOf(kind render.Kind, o runtime.Object) render.Key {
	m, ok := o.(metav1.Object)
	if !ok {
		return render.Key{Kind: kind}
	}
	return render.Key{Kind: kind, Name: m.GetName()}
}

func encoded(o runtime.Object) string {
	text, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// isOf tells whether a member of a set is a pod's address.
func isOf(member, id string) bool { return strings.HasSuffix(member, " "+addressOf(id)) }
