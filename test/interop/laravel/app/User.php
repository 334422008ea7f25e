<?php

declare(strict_types=1);

namespace App;

use Illuminate\Auth\GenericUser;
use Illuminate\Notifications\Notifiable;

final class User extends GenericUser
{
    use Notifiable;

    public static function of(string|int $id): self
    {
        return new self(['id' => (string) $id, 'name' => "user $id", 'remember_token' => null]);
    }

    public function receivesBroadcastNotificationsOn(): string
    {
        return "App.User.{$this->id}";
    }
}
