package render

// IPVSInterface bears the addresses of services where kube-proxy runs in mode ipvs.
const IPVSInterface = "kube-ipvs0"

// hasIPVS tells whether kube-proxy runs in mode ipvs, or has and was not cleaned up after.
func (s *State) hasIPVS() bool {
	_, has := s.interfaces[IPVSInterface]
	return has
}

// resolveIPVS has the dataplane judge what IPVS passes on, when there is any.
func (s *State) resolveIPVS() {
	if has := s.hasIPVS(); has != s.policy.Settings.IPVS {
		s.policy.Settings.IPVS, s.policy.SettingsDirty = has, true
	}
}
