<?php

declare(strict_types=1);

use Illuminate\Support\Facades\Broadcast;

Broadcast::channel('orders.{id}', static fn ($user, $id) => $user->id === $id);
Broadcast::channel('room.{id}', static fn ($user, $id) => ['id' => $user->id, 'name' => $user->name, 'room' => $id]);
Broadcast::channel('App.User.{id}', static fn ($user, $id) => $user->id === $id);
