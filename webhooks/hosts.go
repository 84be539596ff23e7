package webhooks

import (
	"context"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

func writeHostEndpoint(_ context.Context, _ Cluster, obj client.Object) (verdict, error) {
	h, ok := obj.(*v3.HostEndpoint)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return verdict{errs: validate.HostEndpoint(h), warnings: hostWarnings(h)}, nil
}

const (
	// allowProfile lets through what no policy decides about.
	allowProfile = "projectcalico-default-allow"
	// podInterfaces begin the names of pods' interfaces.
	podInterfaces = "cali"
)

func hostWarnings(h *v3.HostEndpoint) []string {
	var warnings []string
	if h.Spec.Node == "" {
		warnings = append(warnings, "spec.node: without a node the host endpoint protects nothing: write the name that the node has in kubectl get nodes")
	}
	if strings.HasPrefix(h.Spec.InterfaceName, podInterfaces) {
		warnings = append(warnings, fmt.Sprintf("spec.interfaceName: names that begin with %s are of pods' interfaces, which host endpoints do not protect", podInterfaces))
	}
	if len(h.Spec.Profiles) == 0 || h.Spec.Profiles[0] != allowProfile {
		warnings = append(warnings, fmt.Sprintf("spec.profiles: what no policy allows to or from the node there is denied, failsafe ports apart; "+
			"to have policies deny what they name and nothing else, write profiles: [%s]", allowProfile))
	}
	return warnings
}
