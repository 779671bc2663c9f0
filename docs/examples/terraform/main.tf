terraform {
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 1.13"
    }
  }
  backend "kubernetes" {
    secret_suffix = "web"
    namespace     = "shop"
  }
}

provider "kubernetes" {}

resource "kubernetes_config_map" "settings" {
  metadata {
    name      = "tofu-settings"
    namespace = "shop"
  }
  data = {
    theme = "dark"
  }
}
